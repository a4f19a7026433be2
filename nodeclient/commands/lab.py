"""``sealrun lab``: a PC that boots from its Pi, on this host, by the project's own scripts."""

from __future__ import annotations

import subprocess
import sys

import typer

from nodeclient.commands.demo import PROJECT
from nodeclient.commands.output import Json
from nodeclient.errors import CheckoutMissing

app = typer.Typer(
    help="Rehearse on this host with a PC (QEMU, TPM 2.0) that boots from its Pi.",
    no_args_is_help=True,
)


@app.command()
def up(as_json: Json = False) -> None:
    """Start the lab: namespaces, chain, nodes, the Pi with its PC. It stays until `down`."""
    _run("up", as_json)


@app.command()
def task(as_json: Json = False) -> None:
    """Run the common-names task through the lab that is up, and check it independently."""
    _run("task", as_json)


@app.command()
def down(as_json: Json = False) -> None:
    """End the lab; also removes what a lab left whose process was killed."""
    _run("down", as_json)


@app.command("all")
def run_all(as_json: Json = False) -> None:
    """Up, task and down in one; nothing is left, whatever happens."""
    _run("all", as_json)


def _run(command: str, as_json: bool) -> None:
    """Hand over to scripts/lab, which is no part of an installed node."""
    if not (PROJECT / "scripts" / "lab").is_dir():
        raise CheckoutMissing(
            "the lab needs the project's folder with its contracts and examples",
            "clone the repository and run: make lab",
        )
    words = [sys.executable, "-m", "scripts.lab", command, *(["--json"] if as_json else [])]
    raise typer.Exit(_wait(words))


def _wait(words: list[str]) -> int:
    """Run to the end. Ctrl-C reaches the script as well as us; it takes the lab down first."""
    with subprocess.Popen(words, cwd=PROJECT) as script:
        while True:
            try:
                return script.wait()
            except KeyboardInterrupt:
                continue

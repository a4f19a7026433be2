"""``sealrun lab``: a PC that boots from its Pi, on this host, by the project's own scripts."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from nodeclient.commands.demo import PROJECT
from nodeclient.commands.output import Json
from nodeclient.errors import CheckoutMissing

app = typer.Typer(
    help="Rehearse on this host with a PC (QEMU, TPM 2.0) that boots from its Pi.",
    no_args_is_help=True,
    add_completion=False,
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


@app.command()
def attack(
    names: Annotated[
        list[str] | None, typer.Argument(help="Attacks by name, or: all. None: what there is.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Attack a machine of the lab; each must be refused for exactly its reasons."""
    _start("scripts.lab.attacks", *(names or []), *_json(as_json))


@app.command("all")
def run_all(as_json: Json = False) -> None:
    """Up, task and down in one; nothing is left, whatever happens."""
    _run("all", as_json)


def _run(command: str, as_json: bool) -> None:
    _start("scripts.lab", command, *_json(as_json))


def _json(wanted: bool) -> tuple[str, ...]:
    return ("--json",) if wanted else ()


def _start(module: str, *arguments: str) -> None:
    """Hand over to scripts/lab, which is no part of an installed node."""
    if not (PROJECT / "scripts" / "lab").is_dir():
        raise CheckoutMissing(
            "the lab needs the project's folder with its contracts and examples",
            "clone the repository and run: make lab",
        )
    raise typer.Exit(_wait([sys.executable, "-m", module, *arguments]))


def _wait(words: list[str]) -> int:
    """Run to the end. Ctrl-C reaches the script as well as us; it takes the lab down first."""
    with subprocess.Popen(words, cwd=PROJECT) as script:
        while True:
            try:
                return script.wait()
            except KeyboardInterrupt:
                continue

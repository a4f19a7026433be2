"""``sealrun demo``: the main job on this machine, by the project's own scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from nodeclient.commands.output import Json
from nodeclient.config.root import RootKind
from nodeclient.errors import CheckoutMissing

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "scripts" / "demo.py"
app = typer.Typer(add_completion=False)


@app.command()
def demo(
    function: Annotated[
        Path | None,
        typer.Option(exists=True, help="Folder or file of the function. Default: common names."),
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", exists=True, dir_okay=False, help="A list to seal; give two."),
    ] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="An argument of the function; may be repeated.")
    ] = None,
    root: Annotated[
        RootKind, typer.Option(help="What holds the nodes' root keys; all are simulated.")
    ] = "software",
    as_json: Json = False,
) -> None:
    """Run the main job here: chain, seven nodes, two sealed lists, one proven answer."""
    if not SCRIPT.is_file():
        raise CheckoutMissing(
            "the demo needs the project's folder with its contracts and examples",
            "clone the repository and run: make demo",
        )
    command = [sys.executable, str(SCRIPT), "--root", root]
    if function is not None:
        command += ["--function", str(function.resolve())]
    for path in inputs or []:
        command += ["--input", str(path.resolve())]
    for text in argument or []:
        command += [f"--argument={text}"]
    if as_json:
        command += ["--json"]
    raise typer.Exit(subprocess.run(command, cwd=PROJECT, check=False).returncode)

"""How commands talk: results on stdout (text or JSON), progress on stderr, never both mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NodeFolder = Annotated[Path, typer.Option("--node", help="Folder of the node.", file_okay=False)]


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a command's result: one JSON object, or a table of names and values."""
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))
        return
    console = Console()
    table = Table.grid(padding=(0, 2))
    for name, value in result.items():
        table.add_row(Text(name.replace("_", " "), style="bold"), Text(_text(value)))
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_line(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(_line(entry) for entry in value) or "none"
    return "none" if value is None else str(value)


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return "  ".join(f"{name} {_line(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_line(entry) for entry in value)
    return "none" if value is None else str(value)


def say(text: str) -> None:
    """One line to the person at the terminal, on stderr; it is no part of the result."""
    # The terminal breaks a long line; in a file it stays one.
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)


def _progress(*columns: ProgressColumn) -> Progress:
    """Bars for a person at a terminal; logs and pipes get none."""
    from rich.progress import Progress  # here and below: most commands show none

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner with the time gone by, while something of unknown length runs."""
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with _progress(*columns) as progress:
        progress.add_task(text, total=None)
        yield


@contextmanager
def counted(text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of ``total`` bytes (None: unknown); yields what moves it by some bytes."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with _progress(*columns) as progress:
        bar = progress.add_task(text, total=total)
        yield lambda size: progress.advance(bar, size)

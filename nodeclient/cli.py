"""``sealrun``: the command line. Everything here is wiring; each group has its file.

Whatever goes wrong ends as one line on stderr with the next step: exit code 2 for bad input, 1 for
a failure, 130 when interrupted. An error that nobody foresaw writes its traceback to a file, so
that the person can hand it on, and still shows one line.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from nodeclient.commands.lazy import COMMANDS, LazyCommands
from nodeclient.errors import SealrunError

app = typer.Typer(
    name="sealrun",
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _sealrun() -> None:
    """Run exactly your code on somebody else's machine, and prove it."""


_GROUPS = tuple(name for name in COMMANDS if name != "demo")
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Never raises."""
    words = list(arguments)
    if words in ([], *([group] for group in _GROUPS)):
        words.append("--help")
    try:
        code = app(words, prog_name="sealrun", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except TyperException as error:
        return _fail(_usage_line(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted; run the same command again to go on", _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: no flush
        return 1
    except Exception as error:
        return _fail(*_explain(error))


def _usage_line(error: TyperException) -> str:
    """What is wrong with the command line; typer's own form takes a box of many lines."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "sealrun"
    describe = getattr(error, "format_message", error.__str__)
    return f"{' '.join(describe().split()).rstrip('.')}; see: {command} --help"


def _explain(error: Exception) -> tuple[str, int]:
    """One line and an exit code for any exception."""
    if isinstance(error, _bad_input()):
        return _one_line(error), 2
    if isinstance(error, SealrunError):
        return _one_line(error), error.exit_code
    if type(error).__module__.startswith(("nodeclient.", "agent.")):  # typed, with a next step
        return _one_line(error), 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; check the path, its permissions and the disk", 1
    return f"unforeseen {type(error).__name__}; report it with {_keep(error)}", 1


def _bad_input() -> tuple[type[Exception], ...]:
    """Errors of the parts that say: what you gave me (a file, a CID, a folder) is not right."""
    # Imported here: a command that ends well needs none of these parts.
    from agent.formats.cbor import FormatError
    from nodeclient.capsules.errors import BlockMissing
    from nodeclient.chain.errors import DeploymentInvalid
    from nodeclient.identity.keys import KeysError
    from nodeclient.images.errors import ImageRefused
    from nodeclient.p2p.errors import ContactInvalid
    from nodeclient.roots.base import RootError

    return (
        *(FormatError, BlockMissing, DeploymentInvalid, ContactInvalid, RootError, KeysError),
        ImageRefused,
    )


def _keep(error: Exception) -> str:
    """Write the traceback (it holds code lines, no values) to a file of one's own."""
    descriptor, path = tempfile.mkstemp(prefix="sealrun-error-", suffix=".txt")
    with os.fdopen(descriptor, "w") as file:
        file.writelines(traceback.format_tb(error.__traceback__))
        file.write(f"{type(error).__qualname__}\n")
    return path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _fail(line: str, code: int) -> int:
    typer.echo(f"sealrun: {line}", err=True)
    return code


def main() -> None:
    """Entry point of the ``sealrun`` command."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

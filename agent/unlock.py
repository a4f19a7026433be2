"""Opens the function and the inputs into the RAM disk, each checked against what the task names."""

from __future__ import annotations

from collections.abc import Callable

from agent.formats.archive import unpack
from agent.formats.capsule import Kind, open_stream
from agent.formats.cbor import FormatError
from agent.formats.outcome import Ending
from agent.formats.rpc import RpcError
from agent.formats.taskspec import TaskSpec
from agent.keys import KeyRing
from agent.scratch import Scratch

Get = Callable[[str], bytes]


class CannotUnlock(Exception):
    """The run cannot begin; `ending` says why."""

    def __init__(self, ending: Ending, message: str) -> None:
        super().__init__(message)
        self.ending = ending


def unlock_function(scratch: Scratch, spec: TaskSpec, keys: KeyRing, get: Get) -> None:
    """Unpack the function into `scratch.function`. Raises CannotUnlock (INPUT_MISSING,
    FUNCTION_BAD).
    """
    spool = scratch.folder / "function.tar"
    try:
        with spool.open("wb") as sink:
            open_stream(
                spec.function.cid,
                get,
                keys.get(spec.function.cid),
                sink,
                expect_owner=None,  # the CID pins the header, and with it the owner's key
                expect_digest=spec.function.digest,
                expect_kind=Kind.FUNCTION,
            )
        with spool.open("rb") as source:
            unpack(source, scratch.function)
        scratch.function.chmod(0o755)
    except RpcError as error:
        raise CannotUnlock(Ending.INPUT_MISSING, str(error)) from error
    except (FormatError, OSError) as error:
        raise CannotUnlock(Ending.FUNCTION_BAD, str(error)) from error
    finally:
        spool.unlink(missing_ok=True)


def unlock_inputs(scratch: Scratch, spec: TaskSpec, keys: KeyRing, get: Get) -> None:
    """Write each input to `scratch.inputs`. Raises CannotUnlock (INPUT_MISSING or INPUT_BAD)."""
    for entry in spec.inputs:
        file = scratch.inputs / entry.name
        try:
            with file.open("wb") as sink:
                open_stream(
                    entry.cid,
                    get,
                    keys.get(entry.cid),
                    sink,
                    expect_owner=None,
                    expect_digest=None,
                    expect_kind=Kind.DATA,
                )
            file.chmod(0o444)
        except RpcError as error:
            raise CannotUnlock(Ending.INPUT_MISSING, str(error)) from error
        except (FormatError, OSError) as error:
            raise CannotUnlock(Ending.INPUT_BAD, str(error)) from error

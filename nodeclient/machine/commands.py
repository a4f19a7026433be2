"""Short commands of the system: run, bounded in time, their failure told in one line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from nodeclient.errors import MachineError

_WORDS = 200  # characters of a failed command's last line that are passed on


async def run(*argv: str, text: str = "", seconds: float = 30.0) -> str:
    """Standard output of `argv`, which gets `text` on standard input. Raises MachineError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to end with all that it started
        )
    except OSError as error:
        raise MachineError(f"{argv[0]}: {error.strerror}", "install it, or correct its path") from (
            error
        )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate(text.encode())
    except TimeoutError as error:
        raise MachineError(f"{argv[0]} did not end in {seconds:.0f} s", "try it by hand") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    said = output.decode(errors="replace")
    if process.returncode:
        lines = said.strip().splitlines() or ["it said nothing"]
        raise MachineError(
            f"{argv[0]} failed with {process.returncode}: {lines[0][:_WORDS]}", "try it by hand"
        )
    return said

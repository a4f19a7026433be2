"""The eraser's programs: from C without a C library to static ELF files.

`init` is what the Machine runs. `eraser-host` is the same code with a file in place of memory and
loopback in place of the cable, for tests.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.formats.erasure import WINDOW
from agent.formats.netboot import ERASE_PORT, MACHINE_ADDRESS, PI_ADDRESS, PREFIX
from nodeclient.images.errors import ImageError

SOURCE = Path(__file__).with_name("source")
INIT, HOST = "init.c", "host.c"
SECONDS = 120
# No stack protector: it takes a thread's own storage, which a C library would set up. No unwind
# tables and no build ID: nothing in the file but code and data.
FLAGS = (
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-pie"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-ident", "-nostdlib"),
    *("-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-s"),
)

Run = Callable[[Sequence[str]], object]  # a command, in a folder that holds the sources


def sources(main: str) -> tuple[str, ...]:
    """File names of the program whose entry is in `main`."""
    return tuple(
        each.name
        for each in sorted(SOURCE.glob("*.c"))
        if each.name == main or each.name not in (INIT, HOST)
    )


def command(compiler: str, main: str, target: str, defines: Sequence[str]) -> list[str]:
    """What compiles the program; paths are relative to the folder of the sources."""
    return [compiler, *FLAGS, *(f"-D{each}" for each in defines), "-o", target, *sources(main)]


def machine_defines(window: int = WINDOW) -> tuple[str, ...]:
    """What the program of the Machine is told of its surroundings."""
    mask = int(ipaddress.ip_network(f"0.0.0.0/{PREFIX}").netmask)
    return (
        f"WINDOW={window}",
        f"PI_ADDRESS={int(ipaddress.ip_address(PI_ADDRESS))}",
        f"MACHINE_ADDRESS={int(ipaddress.ip_address(MACHINE_ADDRESS))}",
        f"NET_MASK={mask}u",
        f"ERASE_PORT={ERASE_PORT}",
    )


def build_host_eraser(folder: Path, *defines: str) -> Path:
    """Compile ``eraser-host`` into `folder` with this host's gcc. Raises ImageError.

    Its arguments stand at the head of `source/host.c`, what can be defined in `source/cheat.h`.
    """
    target = folder / "-".join(("eraser-host", *defines)).replace("=", "-")
    try:
        done = subprocess.run(
            command("gcc", HOST, str(target.absolute()), defines),
            cwd=SOURCE,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ImageError("no gcc; install it: apt-get install gcc") from error
    except subprocess.TimeoutExpired:
        raise ImageError(f"gcc did not end within {SECONDS} s; try again") from None
    if done.returncode:
        complaint = next(
            (line for line in done.stderr.splitlines() if "error" in line), "no reason"
        )
        raise ImageError(f"the eraser does not compile ({complaint[:160]}); correct it")
    return target

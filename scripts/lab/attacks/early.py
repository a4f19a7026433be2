"""The initramfs of an attacker's boot image: the honest one, and one step more before the root."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.formats.netboot import HTTP_PORT, PI_ADDRESS, ROOT_PATH
from nodeclient.images.boot.tree import Node, file

INIT: Final = Path(__file__).parents[3] / "nodeclient" / "images" / "boot" / "init.sh"
_LAST_STEP = b"exec $B switch_root"
_FILLED: Final = {"HOST": PI_ADDRESS, "PORT": str(HTTP_PORT), "PATH": ROOT_PATH}


def init_with(step: str) -> Node:
    """`init.sh` with a line more before it hands over; the root lies under /new then."""
    init = INIT.read_bytes()
    for key, value in _FILLED.items():
        init = init.replace(f"@{key}@".encode(), value.encode())
    assert init.count(_LAST_STEP) == 1, "init.sh ends otherwise than this attack knows"
    return file(init.replace(_LAST_STEP, step.encode() + _LAST_STEP), 0o755)

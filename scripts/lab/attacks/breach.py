"""A breached Machine: the approved image, the honest Agent, and an attacker's back door beside it.

What a function that broke out of its container could do is done through the door. The image has an
ID of its own, approved on the rig's chain and known to its verifier, so that the boot is no reason:
what is found is what the attacker did afterwards.
"""

from __future__ import annotations

import itertools
import json
import socket
import textwrap
import time
from pathlib import Path
from typing import Final

from nodeclient.images.boot.keep import BuiltBoot
from nodeclient.images.boot.tree import file
from nodeclient.images.boot.variant import make_variant
from scripts.lab.attacks.early import init_with
from scripts.lab.rig import Rig

DOOR: Final = Path(__file__).with_name("door.py")
# The shell gives a process in the background /dev/null, and /dev has moved to /new.
GUEST: Final = Path(__file__).with_name("guest.py")
_START: Final = (
    ": >/dev/null; $B cp /door.py /new/run/door.py\n"
    "$B chroot /new /usr/bin/python3 -I -B /run/door.py </new/dev/null >/new/dev/null 2>&1 &\n"
)
_OPEN_SECONDS: Final = 120.0  # until the door is open, on an emulated PC that is starting
_TRY_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 1 << 20


class DoorClosed(RuntimeError):
    """The back door does not answer, or what it was told to do failed there."""


class Door:
    """The attacker's end of the PC's second serial port."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)

    def wait(self) -> None:
        """Until somebody serves the other end: what is sent before that is lost."""
        end = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                self.run("said = True", _TRY_SECONDS)
                return
            except (OSError, DoorClosed):
                if time.monotonic() > end:
                    raise

    def run(self, code: str, seconds: float = 90.0) -> object:
        """Run Python as root in the Machine; what it assigned to `said`. Raises DoorClosed."""
        number = next(self._numbers)
        order = {"id": number, "code": textwrap.dedent(code)}
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(seconds)
            line.connect(str(self._path))
            line.sendall(b"\n" + json.dumps(order).encode() + b"\n")  # ends what was left over
            with line.makefile("rb") as answers:
                while text := answers.readline(_MAX_ANSWER):
                    answer = json.loads(text)
                    if answer["id"] == number:
                        break
                else:
                    raise DoorClosed("the Machine is gone; look at its console")
        if "failed" in answer:
            raise DoorClosed(f"in the Machine: {answer['failed']}")
        return answer["said"]


def boot_breached(rig: Rig) -> None:
    """Build it, have it approved, boot it, and let the task run."""
    image = make_breached(rig)
    rig.admit(image)
    rig.boot(image)
    door = door_of(rig)
    door.wait()
    door.run(GUEST.read_text())
    rig.run_task()


def make_breached(rig: Rig) -> BuiltBoot:
    """The approved image, whose initramfs starts one process more."""
    overlay = {"init": init_with(_START), "door.py": file(DOOR.read_bytes())}
    return make_variant(rig.image, rig.folder / "breached", (), overlay)


def door_of(rig: Rig) -> Door:
    """The back door of the breached Machine that runs."""
    return Door(rig.pc.door)

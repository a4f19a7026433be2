"""Attacks from within the breached Machine that leave no trace: it is attacked again and again.

Each is over before its function returns; the question was asked while it went on.
"""

from __future__ import annotations

import base64
import contextlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import asdict

from scripts.lab.attacks.breach import Door, door_of
from scripts.lab.attacks.wire import Reasons
from scripts.lab.errand import LIMITS, WAITS, waiting_program
from scripts.lab.rig import Rig
from scripts.lab.verifier import said

SILENCE_SECONDS = 20.0  # the product's bound (machine.silence_seconds)
HOUR = 3600  # seconds
SHARE = 0.02  # of the time: an answer of two seconds takes more than a minute and a half


def second_container(rig: Rig) -> Reasons:
    """A second container, as Docker starts one by default, from the task's own image."""
    with _attacking(rig) as door:
        door.run("start_container('', {}, owned=False)")
        return said(rig.judge(rig.ask()))


def other_image(rig: Rig) -> Reasons:
    """A container under the Agent's own label and hardening, from another image than the task's."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        program = waiting_program(b"another")
        item = tarfile.TarInfo(WAITS)
        item.size, item.mode = len(program), 0o755
        archive.addfile(item, io.BytesIO(program))
    text = base64.b64encode(tar.getvalue()).decode()
    with _attacking(rig) as door:
        door.run(f"image = import_image({text!r})")
        door.run(f"start_container(image, {{'limits': {asdict(LIMITS)}}}, owned=True)")
        return said(rig.judge(rig.ask()))


def more_rights(rig: Rig) -> Reasons:
    """A container under the Agent's own label, from the task's image, as root and with rights."""
    rights = {"user": "0:0", "cap_drop": [], "cap_add": ["SYS_ADMIN"]}
    changes = {"limits": asdict(LIMITS), **rights}
    with _attacking(rig) as door:
        door.run(f"start_container('', {changes!r}, owned=True)")
        return said(rig.judge(rig.ask()))


def unknown_program(rig: Rig) -> Reasons:
    """A program from a file that is no part of the image, and deleted as soon as it runs."""
    return _running(rig, from_memory=False)


def program_from_memory(rig: Rig) -> Reasons:
    """A program that never lay in any file."""
    return _running(rig, from_memory=True)


def no_way_out(rig: Rig) -> Reasons:
    """DNS, TCP, UDP, ICMP and IPv6 from the network namespace of the task's container."""
    with _attacking(rig) as door:
        before = len(rig.pi.incidents)
        ways = door.run("said = ways_out_of_container()")
        seen = rig.pi.incidents[before:]
    if ways or seen or said(rig.judge(rig.ask())):
        return ()
    return ("container: no way out was found, and the cable saw nothing",)


def frozen(rig: Rig) -> Reasons:
    """The Agent is stopped (SIGSTOP)."""
    with _attacking(rig) as door:
        door.run("freeze()")
        return _asked_in_vain(rig)


def slowed(rig: Rig) -> Reasons:
    """The Agent gets a fiftieth of its time (SIGSTOP and SIGCONT in turns)."""
    with _attacking(rig) as door:
        door.run(f"slow({SHARE})")
        return _asked_in_vain(rig)


def clock_set_back(rig: Rig) -> Reasons:
    """The Machine's date is an hour ago, while a question is answered."""
    with _attacking(rig) as door:
        door.run(f"set_clock(-{HOUR})")
        try:
            return said(rig.judge(rig.ask()))
        finally:
            door.run(f"set_clock({HOUR})")


def _running(rig: Rig, *, from_memory: bool) -> Reasons:
    text = base64.b64encode(waiting_program(b"of nobody's image")).decode()
    with _attacking(rig) as door:
        door.run(f"start_program({text!r}, from_memory={from_memory})")
        return said(rig.judge(rig.ask()))


def _asked_in_vain(rig: Rig) -> Reasons:
    try:
        return said(rig.judge(rig.ask(seconds=SILENCE_SECONDS)))
    except TimeoutError:
        return ("silence: the machine did not answer in time",)


@contextlib.contextmanager
def _attacking(rig: Rig) -> Iterator[Door]:
    """Afterwards nothing of the attack is left."""
    door = door_of(rig)
    try:
        yield door
    finally:
        door.run("thaw(); remove_started()")

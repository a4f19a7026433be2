"""Erasers that cheat: each keeps something of the memory, and none of them gets away with it.

Most fail before the Pi, whom no quote could tell as much: the answer is wrong. One that parks the
fill elsewhere answers rightly, as the bound of docs/erasure.md permits; members refuse it by its
quote, because it is not the approved eraser. An honest eraser is the control of each.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from agent.formats.erasure import ErasureProof
from agent.formats.messages import AFTER, Question
from nodeclient.chain.images import ImageKind
from nodeclient.core.evidence_policy import Remembered
from nodeclient.core.reasons import Code
from nodeclient.core.types import Phase
from nodeclient.errors import MachineError
from nodeclient.images.eraser.build import build_eraser
from scripts.lab.attacks.wire import Reasons
from scripts.lab.rig import IMAGES, Answer, ControlFailed, Rig, Wiped, header_of
from scripts.lab.verifier import said

# A kernel that can drive a disk; the product's has no block layer.
DISK_CONFIG = ("CONFIG_BLOCK=y", "CONFIG_BLK_DEV=y", "CONFIG_VIRTIO_BLK=y")
PARKED_MIB = 16  # of the PC's disk of 64


def skips(rig: Rig) -> Reasons:
    """The eraser says that it stored everything before anything has come."""
    return _cheat(rig, "CHEAT_SKIP")


def keeps_64_mib(rig: Rig) -> Reasons:
    """The eraser leaves the last 64 MiB of memory as they were."""
    return _cheat(rig, "CHEAT_KEEP_MIB=64")


def keeps_1_mib(rig: Rig) -> Reasons:
    """The eraser leaves the last MiB of memory as it was."""
    return _cheat(rig, "CHEAT_KEEP_MIB=1")


def names_ranges(rig: Rig) -> Reasons:
    """The eraser says that there is no memory above 256 MiB, and erases none there."""
    return _cheat(rig, "CHEAT_RANGES")


def parks_on_disk(rig: Rig) -> Reasons:
    """The eraser keeps 16 MiB of memory, and their part of the fill on the PC's disk."""
    wiped = _wiped(rig)
    image = build_eraser(IMAGES, rig.say, (f"CHEAT_DISK={PARKED_MIB}",), extra_config=DISK_CONFIG)
    assert rig.before is not None
    parked = rig.pi.erase(image, rig.before.memory, _anything)
    before = rig.before
    rig.pi.boot(rig.image, rig.runtime, rig.approvals.is_approved)
    # A Pi that lies writes the approved eraser's ID into the proof; its quote knows better.
    named = replace(ErasureProof.decode(parked), image=ErasureProof.decode(wiped.proof).image)
    control = _after(rig, wiped, before)
    if any(text.startswith(Code.ERASURE) for text in control):
        raise ControlFailed(f"the honest proof was refused: {'; '.join(control)}")
    attacked = _after(rig, replace(wiped, proof=named.encode()), before)
    # An errand that never ran is refused AFTER for other reasons, too: with either proof.
    return tuple(text for text in attacked if text not in control)


def _cheat(rig: Rig, define: str) -> Reasons:
    _wiped(rig)
    image = build_eraser(IMAGES, rig.say, (define,))
    assert rig.before is not None
    try:
        rig.pi.erase(image, rig.before.memory, _anything)
    except MachineError as error:
        return (f"machine: {error.message}",)
    return ()


def _wiped(rig: Rig) -> Wiped:
    """The control: the task was given up, and the honest eraser proved that its memory is erased.

    Once for each run; raises ControlFailed.
    """
    if rig.wiped is None:
        honest = build_eraser(IMAGES, rig.say)
        rig.hand_out(honest, ImageKind.BOOT)
        rig.boot()
        rig.control()
        transcript = rig.pi.call("stop", None)
        assert isinstance(transcript, bytes)
        assert rig.before is not None
        try:
            proof = rig.pi.erase(honest, rig.before.memory, rig.approvals.is_approved)
        except MachineError as error:
            raise ControlFailed(f"the honest eraser was refused: {error}") from error
        if ErasureProof.decode(proof).quote is None:
            raise ControlFailed("the honest eraser's TPM quoted nothing")
        rig.wiped = Wiped(transcript, proof)
    return rig.wiped


def _after(rig: Rig, wiped: Wiped, before: Remembered) -> Reasons:
    """What the verifier says of AFTER Evidence with this proof, from the boot that runs."""
    nonce = secrets.token_bytes(32)
    context = replace(rig.errand.context, phase=AFTER)
    body = Question(nonce, context, (), wiped.transcript, proof=wiped.proof).to_body()
    data = rig.pi.call("ask", body)
    assert isinstance(data, bytes)
    answer = Answer(nonce, data)
    expected = replace(
        rig.errand.expected(nonce),
        phase=Phase.AFTER,
        before=before,
        statement=header_of(answer),
    )
    return said(rig.judge(answer, expected))


async def _anything(_image: bytes, _kind: ImageKind) -> bool:
    """An attacker's Pi asks no chain."""
    return True

"""Attacks on the bus of the running Machine's TPM: what it is asked, and who answers."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from agent.formats.quote import QUOTED_PCRS, Quote, qualifying_data
from agent.tpm_wire import sized, u16, u32
from scripts.lab.attacks.other_tpm import copy_state, fed, powered
from scripts.lab.attacks.tpm_wire import Forward, Rewrite, code_of
from scripts.lab.attacks.wire import Reasons, other_tpm
from scripts.lab.rig import Rig
from scripts.lab.verifier import said

QUOTE = 0x158  # TPM_CC, TPM 2.0 Library, Part 2 §6.5.2
_SHA256, _SHA384 = 0x000B, 0x000C
_SCHEME = u16(0x0010)  # TPM_ALG_NULL: the key's own
_NO_HMAC = sized(b"") + b"\x01" + sized(b"")  # TPMS_AUTH_RESPONSE of a password
_AUTHORISED = u16(0x8002)
_EARLIER = "earlier-tpm"


@dataclass(frozen=True, slots=True)
class QuoteCommand:
    """TPM2_Quote (Part 3, §18.4). `head`: all before the parameters but the header."""

    head: bytes
    qualifying: bytes
    selection: bytes

    @classmethod
    def parse(cls, command: bytes) -> QuoteCommand:
        begin = 18 + int.from_bytes(command[14:18], "big")
        size = int.from_bytes(command[begin : begin + 2], "big")
        data, rest = command[begin + 2 : begin + 2 + size], command[begin + 2 + size :]
        assert rest.startswith(_SCHEME), "not the Agent's command"
        return cls(command[10:begin], data, rest[len(_SCHEME) :])

    def encode(self) -> bytes:
        body = self.head + sized(self.qualifying) + _SCHEME + self.selection
        return _AUTHORISED + u32(10 + len(body), QUOTE) + body


def fewer_pcrs(rig: Rig) -> Reasons:
    """The TPM is asked for the firmware's PCRs alone: none that tells of kernel and image."""
    return _selecting(rig, _SHA256, range(4))


def other_bank(rig: Rig) -> Reasons:
    """The TPM is asked for the same PCRs of another hash bank."""
    return _selecting(rig, _SHA384, QUOTED_PCRS)


def other_session(rig: Rig) -> Reasons:
    """The quote is made for session keys that the attacker holds."""
    nonce, context = secrets.token_bytes(32), rig.errand.context
    foreign = qualifying_data(nonce, secrets.token_bytes(32), context)

    def change(command: QuoteCommand, forward: Forward) -> bytes:
        return forward(replace(command, qualifying=foreign).encode())

    with _quoting(rig, change):
        return said(rig.judge(rig.ask(nonce)))


def relayed_quote(rig: Rig) -> Reasons:
    """Another genuine TPM, fed with this boot's measurements, answers for the Machine's."""
    with fed(other_tpm(rig), rig.pc.bus.extends) as tpm, _quoting(rig, _by(tpm.quote)):
        return said(rig.judge(rig.ask()))


def older_state(rig: Rig) -> Reasons:
    """The Machine's TPM, its memory put back to what it held before its last boots."""
    earlier = copy_state(rig.folder / _EARLIER, rig.folder / f"copy-{secrets.token_hex(4)}")
    with fed(earlier, rig.pc.bus.extends) as tpm, _quoting(rig, _by(tpm.quote)):
        return said(rig.judge(rig.ask()))


def keep_older_state(rig: Rig) -> None:
    """Before the first boot: copy the TPM's memory, then use it twice. Its count goes on."""
    copy_state(rig.pc.folder / "tpm", rig.folder / _EARLIER)
    for _ in range(2):
        with powered(rig.pc.bus):
            pass


def _selecting(rig: Rig, bank: int, pcrs: range | tuple[int, ...]) -> Reasons:
    bits = sum(1 << pcr for pcr in pcrs)
    selection = u32(1) + u16(bank) + bytes([3]) + bits.to_bytes(3, "little")

    def change(command: QuoteCommand, forward: Forward) -> bytes:
        return forward(replace(command, selection=selection).encode())

    with _quoting(rig, change):
        return said(rig.judge(rig.ask()))


def _by(quote: Callable[[bytes], Quote]) -> Callable[[QuoteCommand, Forward], bytes]:
    """Answer instead of the TPM."""

    def answer(command: QuoteCommand, _forward: Forward) -> bytes:
        made = quote(command.qualifying)
        parameters = sized(made.attest) + made.signature
        body = u32(len(parameters)) + parameters + _NO_HMAC
        return _AUTHORISED + u32(10 + len(body), 0) + body

    return answer


@contextlib.contextmanager
def _quoting(rig: Rig, change: Callable[[QuoteCommand, Forward], bytes]) -> Iterator[None]:
    """Meanwhile each TPM2_Quote on the bus is changed; it must come by, or this shows nothing."""
    seen = 0

    def rewrite(command: bytes, forward: Forward) -> bytes:
        nonlocal seen
        if code_of(command) != QUOTE:
            return forward(command)
        seen += 1
        return change(QuoteCommand.parse(command), forward)

    with _rewriting(rig, rewrite):
        yield
    assert seen == 1, f"{seen} quotes came over the bus"


@contextlib.contextmanager
def _rewriting(rig: Rig, rewrite: Rewrite) -> Iterator[None]:
    rig.pc.bus.rewrite = rewrite
    try:
        yield
    finally:
        rig.pc.bus.rewrite = None

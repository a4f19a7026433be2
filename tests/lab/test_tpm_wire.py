"""The interposer on a TPM's bus, between a real swtpm and a caller in QEMU's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.tpm import Tpm
from agent.tpm_wire import execute, password, u16, u32
from nodeclient.core.tpm.attest import Attested, parse_attest, verify_attest
from nodeclient.core.tpm.material import SELECTION
from nodeclient.core.tpm.public import parse_attestation_key
from scripts.lab.attacks.bus import QUOTE, QuoteCommand
from scripts.lab.attacks.other_tpm import Bus, copy_state, fed, powered
from scripts.lab.attacks.tpm_wire import PCR_EXTEND, Forward, TappedTpm, code_of

SHA256 = 0x000B


@pytest.fixture
def chip(tmp_path: Path) -> TappedTpm:
    made = TappedTpm(tmp_path / "tpm")
    made.make()
    return made


def extend(bus: Bus, pcr: int, digest: bytes) -> None:
    """TPM2_PCR_Extend (Part 3, §22.2)."""
    parameters = u32(1) + u16(SHA256) + digest
    execute(bus, PCR_EXTEND, (pcr,), parameters, authorise=(password(),))


def quoted(bus: Bus, qualifying: bytes = bytes(32)) -> Attested:
    quote = Tpm(bus).quote(qualifying)
    key = parse_attestation_key(quote.ak)
    assert verify_attest(key.point, quote.attest, quote.signature)
    return parse_attest(quote.attest)


def test_tap__nothing_rewritten__the_tpm_answers_as_without_it(chip: TappedTpm) -> None:
    with powered(chip) as bus:
        before = quoted(bus)
        extend(bus, 4, b"\x01" * 32)
        after = quoted(bus, b"\x02" * 32)
    assert before.selection == after.selection == SELECTION
    assert before.pcr_digest != after.pcr_digest
    assert after.qualifying == b"\x02" * 32
    assert [code_of(command) for command in chip.extends] == [PCR_EXTEND]


def test_tap__rewrites_a_command__the_tpm_signs_what_it_was_asked(chip: TappedTpm) -> None:
    def rewrite(command: bytes, forward: Forward) -> bytes:
        if code_of(command) != QUOTE:
            return forward(command)
        return forward(replace(QuoteCommand.parse(command), qualifying=b"\x07" * 32).encode())

    chip.rewrite = rewrite
    with powered(chip) as bus:
        assert quoted(bus).qualifying == b"\x07" * 32


def test_fed__with_another_boots_measurements__has_its_pcrs_and_own_counters(
    chip: TappedTpm, tmp_path: Path
) -> None:
    earlier = copy_state(tmp_path / "tpm", tmp_path / "earlier")
    with powered(chip):
        pass
    with powered(chip) as bus:
        extend(bus, 11, b"\x03" * 32)
        genuine, key = quoted(bus), Tpm(bus).quote(bytes(32)).ak
    with fed(earlier, chip.extends) as tpm:
        quote = tpm.quote(bytes(32))
    copied = parse_attest(quote.attest)
    assert quote.ak == key, "the same seeds give the same key"
    assert copied.pcr_digest == genuine.pcr_digest
    assert copied.clock.resets < genuine.clock.resets

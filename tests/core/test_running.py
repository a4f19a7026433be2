"""What a Node says it runs: its bytes, and when a difference to the chain becomes a finding."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.formats import cbor
from agent.formats.cbor import FormatError
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.core.running import (
    GRACE_BLOCKS,
    MAX_SERVICES,
    Known,
    RunningSet,
    findings,
    mismatches,
    running_digest,
    weigh,
)
from nodeclient.core.types import Address

NOW = 1_800_000_000
NODE = Address(b"\x01" * 20)
BOOT, WEB = b"\xb0" * 32, b"\xeb" * 32
STATED = RunningSet(NODE, b"\x02" * 32, 70, BOOT, (("web", WEB),), 69)
SERVICE = ImageRecord(ImageKind.SERVICE, bytes(20), NOW - 10, NOW + 10, NOW - 5, revoked=False)
SOUND = {BOOT: Known(replace(SERVICE, kind=ImageKind.BOOT), True), WEB: Known(SERVICE, True)}


def test_set__round_trip() -> None:
    assert RunningSet.decode(STATED.encode()) == STATED
    bare = RunningSet(NODE, b"\x02" * 32, 0, b"", (), 0)
    assert RunningSet.decode(bare.encode()) == bare
    assert bare.images() == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"node": b"\x01" * 19},
        {"nonce": b"\x01" * 31},
        {"block": -1},
        {"boot": b"\x01" * 31},
        {"services": [["", WEB]]},
        {"services": [["w" * 41, WEB]]},
        {"services": [["web", WEB, 1]]},
        {"services": [["web", WEB]] * (MAX_SERVICES + 1)},
        {"watched": 2**63},
        {"more": 1},
    ],
)
def test_set__field_out_of_bounds__refused(changed: dict[str, object]) -> None:
    fields = cbor.decode(STATED.encode(), 10_000)
    assert isinstance(fields, dict)
    with pytest.raises(FormatError):
        RunningSet.decode(cbor.encode(fields | changed))


def test_digest__depends_on_chain_registry_and_statement() -> None:
    one = running_digest(1, NODE, STATED.encode())
    assert one != running_digest(2, NODE, STATED.encode())
    assert one != running_digest(1, Address(b"\x03" * 20), STATED.encode())
    assert one != running_digest(1, NODE, replace(STATED, block=71).encode())


def test_mismatches__all_approved_and_reported__none() -> None:
    assert mismatches(STATED, SOUND, NOW) == ()


@pytest.mark.parametrize(
    ("image", "known", "grave", "reason"),
    [
        (WEB, Known(None, True), True, "nobody approved"),
        (WEB, Known(replace(SERVICE, revoked=True), True), True, "revoked"),
        (WEB, Known(replace(SERVICE, not_after=NOW - 1), True), True, "valid until"),
        (WEB, Known(replace(SERVICE, kind=ImageKind.RUNTIME), True), True, "as RUNTIME"),
        (WEB, Known(SERVICE, False), False, "not reported"),
        (BOOT, Known(SERVICE, True), True, "not as BOOT"),
        (BOOT, Known(replace(SERVICE, kind=ImageKind.BOOT), False), False, "not reported"),
    ],
)
def test_mismatches__one_image_is_not_as_the_chain_says__named(
    image: bytes, known: Known, grave: bool, reason: str
) -> None:
    [found] = mismatches(STATED, SOUND | {image: known}, NOW)
    assert (found.image, found.grave) == (image, grave)
    assert reason in str(found)


def test_mismatches__image_unknown_to_the_asker__is_one() -> None:
    assert len(mismatches(STATED, {}, NOW)) == 2


def test_findings__shown_twice_with_the_grace_between__stand() -> None:
    shown = mismatches(STATED, SOUND | {WEB: Known(SERVICE, False)}, NOW)
    standing = weigh({}, shown, 100)
    assert findings(standing, 100) == ()
    early = weigh(standing, shown, 100 + GRACE_BLOCKS - 1)
    assert findings(early, 100 + GRACE_BLOCKS - 1) == ()
    late = weigh(early, shown, 100 + GRACE_BLOCKS)
    assert findings(late, 100 + GRACE_BLOCKS) == shown


def test_findings__a_sound_answer_in_between__starts_anew() -> None:
    shown = mismatches(STATED, SOUND | {WEB: Known(SERVICE, False)}, NOW)
    standing = weigh(weigh({}, shown, 100), (), 105)
    assert standing == {}
    assert findings(weigh(standing, shown, 120), 120) == ()

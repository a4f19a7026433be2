"""Whatever happens to a quote on its way: typed errors only, and nothing that says something else.

An affirmed mutant must mean what the original meant: bytes that nothing measures (a digest of
another bank, the text beside an event) may differ, what was signed and extended may not.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.formats.cbor import FormatError
from nodeclient.core.tpm.attest import parse_attest
from nodeclient.core.tpm.endorsement import check_endorsement
from nodeclient.core.tpm.event_log import parse_event_log
from nodeclient.core.tpm.ima import parse_ima
from nodeclient.core.tpm.material import read_material
from nodeclient.core.tpm.public import parse_attestation_key, parse_endorsement_key
from nodeclient.core.types import Phase, Verdict
from tests.core.ek_builder import authority, certify, der, ek_public, rsa_key
from tests.core.evidence_kit import make_quoted
from tests.core.tpm_mutations import pc_of

QUICK = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
PARTS = ("attest", "signature", "ak", "event_log", "ima")
ROOT = authority("root")
EK = ek_public(rsa_key().public_key())
CERTIFICATE = der(certify(rsa_key().public_key(), "tpm", ROOT))
edits = st.lists(
    st.tuples(
        st.sampled_from(("set", "insert", "delete", "copy")),
        st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def damage(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """Apply edits at places that wrap around the end."""
    damaged = bytearray(data)
    for kind, place, value in changes:
        at = place % (len(damaged) + 1)
        if kind == "set":
            damaged[at : at + len(value)] = value
        elif kind == "insert":
            damaged[at:at] = value
        elif kind == "copy":
            damaged[at:at] = damaged[at : at + 64]
        else:
            del damaged[at : at + len(value)]
    return bytes(damaged)


def _damage_claims(part: str, changes: list[tuple[str, int, bytes]]) -> Any:
    def edit(claims: dict[str, Any]) -> None:
        place = claims if part in claims else claims["quote"]
        place[part] = damage(place[part], changes)

    return edit


@pytest.mark.parametrize("part", PARTS)
@QUICK
@given(changes=edits)
def test_appraise__damaged_quote__refused_or_of_the_same_meaning(
    part: str, changes: list[tuple[str, int, bytes]]
) -> None:
    kit = make_quoted(Phase.BEFORE)
    honest = read_material(kit.evidence())
    pc_of(kit).edits.append(_damage_claims(part, changes))
    if kit.appraise().verdict is not Verdict.AFFIRMING:
        return
    told = read_material(kit.evidence())
    assert honest.log is not None
    assert told.log is not None
    assert told.attested == honest.attested
    assert told.key == honest.key
    assert told.log.events == honest.log.events
    assert told.ima is not None
    assert honest.ima is not None
    assert told.ima[: told.covered] == honest.ima


@pytest.mark.parametrize(
    "parse",
    [
        parse_attest,
        parse_event_log,
        parse_ima,
        parse_attestation_key,
        parse_endorsement_key,
        lambda data: check_endorsement([data], EK, [ROOT.der]),
        lambda data: check_endorsement([CERTIFICATE], EK, [data]),
    ],
)
@QUICK
@given(data=st.binary(max_size=400))
def test_parse__random_bytes__nothing_but_format_error(parse: Any, data: bytes) -> None:
    try:
        parse(data)
    except FormatError:
        return
    assert parse is parse_ima
    assert data == b""


@QUICK
@given(changes=edits)
def test_endorsement__damaged_certificate__never_believed(
    changes: list[tuple[str, int, bytes]],
) -> None:
    damaged = damage(CERTIFICATE, changes)
    try:
        check_endorsement([damaged], EK, [ROOT.der])
    except FormatError:
        return
    assert damaged == CERTIFICATE

"""What a candidate's documents must show before a committee member affirms its hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats.endorsement import Endorsement
from agent.formats.hashes import keccak256, sha256
from nodeclient.core.admission import MAKER_ZYMBIT, Motion, MotionKind
from nodeclient.core.hardware import HardwareFault, check_tpm, check_zymkey, makers_of
from nodeclient.core.tpm.endorsement import EndorsementError
from nodeclient.core.tpm.public import ROOT_ATTRIBUTES
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from nodeclient.core.zymkey import STAND_IN, Binding, ZymkeyEndorsement
from tests.core.ek_builder import Authority, authority, certify, der, ek_public, rsa_key
from tests.core.tpm_builder import ak_public

MAKER = authority("maker")
EK = rsa_key().public_key()
NODE = Address(b"\x11" * 20)
_NUMBERS = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
POINT = _NUMBERS.x.to_bytes(32, "big") + _NUMBERS.y.to_bytes(32, "big")


def candidate(
    key: Any,
    point: bytes = POINT,
    issuer: Authority = MAKER,
    carried: tuple[Authority, ...] = (),
    named: Authority = MAKER,
) -> tuple[Motion, NodeRecord, bytes]:
    """A node whose chip has this endorsement key, certified by `issuer`; it names a maker."""
    ek = ek_public(key)
    chain = (der(certify(key, "tpm", issuer)), *(each.der for each in carried))
    endorsement = Endorsement(chain, ek, ak_public(point, ROOT_ATTRIBUTES)).encode()
    record = NodeRecord(
        id=7,
        address=NODE,
        status=NodeStatus.PENDING,
        root_class=RootClass.TPM2,
        root_public=POINT,
        vrf_public=bytes(33),
        hardware_id=keccak256(ek),
        attestation_key=bytes(32),
        contact_digest=bytes(32),
        deposit=10**18,
        tier=0,
        engaged=False,
        fixed_at=1,
    )
    motion = Motion(
        id=1,
        kind=MotionKind.ADMIT,
        proposer=NODE,
        number=7,
        subject=record.hardware_id,
        maker=sha256(named.der),
        evidence=keccak256(endorsement),
        round=100,
    )
    return motion, record, endorsement


def test_check_tpm__certified_rsa_key_and_the_registered_root__both_keys() -> None:
    key = rsa_key().public_key()
    chip = check_tpm(*candidate(key), [MAKER.der])
    assert chip.ek == key
    assert chip.key.point == POINT
    assert chip.makers == (sha256(MAKER.der),)


def test_check_tpm__the_chips_other_certified_key__refused() -> None:
    """Else one chip has two identities, and a bar is escaped."""
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(HardwareFault, match="only its RSA"):
        check_tpm(*candidate(other), [MAKER.der])


def test_check_tpm__other_documents_than_registered__refused() -> None:
    motion, record, endorsement = candidate(rsa_key().public_key())
    for changed, makers, why in (
        (replace(record, hardware_id=bytes(32)), [MAKER.der], "not that of the hardware id"),
        (replace(record, root_public=POINT[::-1]), [MAKER.der], "not the registered root key"),
    ):
        with pytest.raises(HardwareFault, match=why):
            check_tpm(motion, changed, endorsement, makers)
    with pytest.raises(EndorsementError, match="not trusted"):
        check_tpm(motion, record, endorsement, [])
    with pytest.raises(HardwareFault, match="not the endorsement"):
        check_tpm(replace(motion, evidence=bytes(32)), record, endorsement, [MAKER.der])


# --- a Zymkey -----------------------------------------------------------------------------------

CARD = ZymkeyEndorsement("0042", "HSM6", "1.2", POINT, Binding(True, True), (0, 1))


def card(
    said: ZymkeyEndorsement, registered: bytes = POINT, simulated: bool = False, **named: Any
) -> None:
    """Judge a node that registered a key and shows what this Zymkey says."""
    motion, record, _ = candidate(EK)
    record = replace(
        record,
        root_class=RootClass.ZYMKEY,
        root_public=registered,
        hardware_id=keccak256(registered),
    )
    evidence = keccak256(said.encode())
    motion = replace(motion, maker=MAKER_ZYMBIT, subject=record.hardware_id, evidence=evidence)
    check_zymkey(replace(motion, **named), record, said.encode(), accept_simulated=simulated)


def test_check_zymkey__bound_and_the_registered_key__passes() -> None:
    card(CARD)
    card(replace(CARD, binding=Binding(False, True)))
    card(replace(CARD, model=f"{STAND_IN} of an HSM6"), simulated=True)


@pytest.mark.parametrize("model", ["Zymkey 4i", "ZYMKEY-4I", f"{STAND_IN} 4i"])
def test_check_zymkey__model_without_binding_state__may_say_none(model: str) -> None:
    card(replace(CARD, model=model, binding=None), simulated=True)


@pytest.mark.parametrize("model", ["HSM6", "hsm4", "SCM", "Zymkey HSM4i", "", "another"])
def test_check_zymkey__model_with_binding_state__must_say_it(model: str) -> None:
    with pytest.raises(HardwareFault, match="quiet about its binding"):
        card(replace(CARD, model=model, binding=None))


def test_check_zymkey__other_than_registered_or_unfit__refused() -> None:
    for said, why in (
        (replace(CARD, public_key=POINT[::-1]), "not the registered root key"),
        (replace(CARD, serial=""), "no serial number"),
        (replace(CARD, binding=Binding(False, False)), "not bound"),
        (replace(CARD, model=STAND_IN), "stand-in"),
    ):
        with pytest.raises(HardwareFault, match=why):
            card(said)
    with pytest.raises(HardwareFault, match="another maker"):
        card(CARD, maker=sha256(MAKER.der))
    with pytest.raises(HardwareFault, match="not the endorsement"):
        card(CARD, evidence=bytes(32))


def test_check_zymkey__key_that_no_zymkey_endorses__refused() -> None:
    """The registration's signature is valid, by a key in a file; the documents are another's."""
    with pytest.raises(HardwareFault, match="not the registered root key"):
        card(CARD, registered=POINT[::-1])


# --- who made it --------------------------------------------------------------------------------

TOP = authority("top")
MIDDLE = authority("middle", TOP)
ISSUER = authority("issuer", MIDDLE)


def makers(carried: tuple[Authority, ...], believed: tuple[Authority, ...]) -> list[str]:
    """Who stands over the chip, by name, as check_tpm finds it; the first must be named."""
    names = {sha256(one.der): one.certificate.subject.rfc4514_string()[3:] for one in believed}
    ders = [one.der for one in believed]
    motion, record, endorsement = candidate(EK, issuer=ISSUER, carried=carried)
    over = makers_of(Endorsement.decode(endorsement).certificates, ders)
    for maker in {sha256(each) for each in ders} - {over[0]}:
        with pytest.raises(HardwareFault, match="another maker than the topmost"):
            check_tpm(replace(motion, maker=maker), record, endorsement, ders)
    named = check_tpm(replace(motion, maker=over[0]), record, endorsement, ders)
    assert named.makers == over
    return [names[each] for each in over]


@pytest.mark.parametrize(
    ("carried", "believed", "over"),
    [
        # the chip carries nothing: links are found among the believed
        ((), (ISSUER,), ["issuer"]),
        ((), (ISSUER, MIDDLE), ["middle", "issuer"]),
        ((), (TOP, ISSUER, MIDDLE), ["top", "issuer", "middle"]),
        # it carries its chain
        ((ISSUER,), (MIDDLE,), ["middle"]),
        ((ISSUER, MIDDLE), (TOP,), ["top"]),
        ((ISSUER, MIDDLE), (TOP, MIDDLE), ["top", "middle"]),
        # a believed one below does not hide the one above, whatever is carried between
        ((ISSUER, MIDDLE), (ISSUER, TOP), ["top", "issuer"]),
        ((ISSUER, MIDDLE, TOP), (ISSUER, TOP), ["top", "issuer"]),
        ((ISSUER, MIDDLE, TOP), (ISSUER, MIDDLE, TOP), ["top", "issuer", "middle"]),
        # what is carried and not believed is nobody's maker
        ((ISSUER, MIDDLE, TOP), (MIDDLE,), ["middle"]),
        # and what is believed counts only where it stands over this chip
        ((), (ISSUER, MAKER), ["issuer"]),
    ],
)
def test_maker__believed_at_several_heights__is_the_topmost_and_no_choice(
    carried: tuple[Authority, ...], believed: tuple[Authority, ...], over: list[str]
) -> None:
    found = makers(carried, believed)
    assert found[0] == over[0]
    assert sorted(found) == sorted(over)
    assert makers(carried, believed[::-1]) == found  # the order of files says nothing


def test_maker__chip_leaves_out_what_the_folder_has__still_the_topmost() -> None:
    """To carry less must not make another maker of it."""
    everything = (TOP, MIDDLE, ISSUER)
    for carried in ((), (ISSUER,), (ISSUER, MIDDLE), (ISSUER, MIDDLE, TOP)):
        assert makers(carried, everything)[0] == "top"


def test_maker__root_renewed_under_its_key__one_of_both_and_both_can_be_barred() -> None:
    renewed = Authority(certify(
        TOP.key.public_key(), "top", TOP, x509.BasicConstraints(True, None),
        x509.SubjectKeyIdentifier.from_public_key(TOP.key.public_key()),
    ), TOP.key)  # fmt: skip
    ders = [TOP.der, renewed.der, MIDDLE.der]
    first = min((TOP, renewed), key=lambda one: sha256(one.der))
    chip = check_tpm(*candidate(EK, issuer=ISSUER, carried=(ISSUER,), named=first), ders)
    assert chip.makers[0] == sha256(first.der)
    assert set(chip.makers) == {sha256(each) for each in ders}


def test_maker__over_a_chain_longer_than_it_allows__is_not_its_maker() -> None:
    strict = authority("strict", length=0)
    below = authority("below", strict)
    chain = (der(certify(EK, "tpm", authority("lowest", below))),)
    assert makers_of((*chain, below.der), [strict.der]) == ()
    leaf = der(certify(EK, "tpm", below))
    assert makers_of((leaf,), [below.der, strict.der]) == (sha256(below.der),)
    direct = der(certify(EK, "tpm", strict))
    assert makers_of((direct,), [strict.der]) == (sha256(strict.der),)

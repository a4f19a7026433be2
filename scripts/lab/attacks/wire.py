"""Attacks between the Pi and those who ask: genuine Evidence, shown where it does not belong."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent.formats.endorsement import Endorsement
from nodeclient.attestation.makers import load_certificates
from nodeclient.core.tpm.public import EkKey, parse_endorsement_key
from nodeclient.core.types import Address
from nodeclient.machine.lab import SoftwareTpm
from scripts.lab.attacks.other_tpm import fed
from scripts.lab.errand import Errand
from scripts.lab.rig import Answer, Rig
from scripts.lab.verifier import said

Reasons = tuple[str, ...]
_DAY = dt.timedelta(days=1)


def old_quote(rig: Rig) -> Reasons:
    """Yesterday's answer to today's question."""
    kept = rig.ask()
    return said(rig.judge(Answer(secrets.token_bytes(32), kept.data)))


def other_task(rig: Rig) -> Reasons:
    """The answer of this Node's task, for the verifier of another one."""
    mine = rig.errand
    other = Errand.of(rig.runtime.image_id, mine.chain_id, mine.market, mine.number + 1)
    return _shown_to(rig, other)


def other_chain(rig: Rig) -> Reasons:
    """The same task number and commitment, on another chain."""
    return _shown_to(rig, replace(rig.errand, chain_id=rig.errand.chain_id + 1))


def other_node(rig: Rig) -> Reasons:
    """A Node that registered the attestation key of another one's Machine shows its answer."""
    thief = replace(rig.record, address=Address(b"\x66" * 20))
    answer = rig.ask()
    expected = replace(rig.expected(answer), node=thief.address)
    return said(rig.judge(answer, expected, thief))


def revoked_image(rig: Rig) -> Reasons:
    """The image was approved when the machine booted, and is revoked now."""
    moment = rig.town.run(rig.approvals.snapshot())
    rig.town.run(rig.approvals.revoke(rig.image.image_id))
    try:
        return said(rig.judge(rig.ask()))
    finally:
        rig.town.run(rig.approvals.restore(moment))


def unknown_maker(rig: Rig) -> Reasons:
    """The TPM's endorsement key, with a certificate by a maker that nobody heard of."""
    genuine = rig.pi.presented.read_bytes()
    endorsement = Endorsement.decode(genuine)
    forged = _certify(parse_endorsement_key(endorsement.ek))
    rig.pi.presented.write_bytes(replace(endorsement, certificates=forged).encode())
    rig.town.run(rig.verifier.forget())
    try:
        return said(rig.judge(rig.ask()))
    finally:
        rig.pi.presented.write_bytes(genuine)


def relayed_key(rig: Rig) -> Reasons:
    """The registered key lives in a genuine TPM elsewhere, which also proves it: the Machine's own
    TPM has another one."""
    chip = other_tpm(rig)
    genuine = rig.pi.presented.read_bytes()
    with fed(chip, ()) as tpm:
        given = tpm.endorsement()
        chain = (*given.certificates, *load_certificates(chip.certificates[1]))
        rig.pi.presented.write_bytes(replace(given, certificates=chain).encode())
        rig.town.run(rig.verifier.forget())
        rig.pi.accomplice = tpm
        try:
            record = rig.pi.registered(given.ak)
            return said(rig.judge(rig.ask(), record=record))
        finally:
            rig.pi.accomplice = None
            rig.pi.presented.write_bytes(genuine)


def other_tpm(rig: Rig) -> SoftwareTpm:
    """Another TPM of the same maker, which verifiers believe."""
    chip = SoftwareTpm(rig.folder / "other-tpm", rig.pc.tpm.certificates[0].parent)
    if not chip.made:
        chip.make()
    return chip


def _shown_to(rig: Rig, other: Errand) -> Reasons:
    answer = rig.ask()
    known = other.expected(answer.nonce)
    return said(rig.judge(answer, replace(known, before=rig.before, last=rig.last)))


def _certify(key: EkKey) -> tuple[bytes, bytes]:
    """(certificate of `key`, its authority's), both DER."""
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody's TPM works")])
    now = dt.datetime.now(dt.UTC)

    def begin(public: EkKey, *, ca: bool) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - _DAY).not_valid_after(now + _DAY)
        return builder.add_extension(x509.BasicConstraints(ca, None), critical=True)

    made = (begin(key, ca=False), begin(authority.public_key(), ca=True))
    first, second = (
        each.sign(authority, hashes.SHA256()).public_bytes(Encoding.DER) for each in made
    )
    return first, second

"""Credential activation, the asker's side: does an attestation key live in the TPM of an EK?

Two facts are needed before a quote says anything about a TPM. The certificate chain of the
endorsement key (EK) ends at a maker whom the asker believes, so the EK lives in a real TPM. And
that TPM opened a secret sealed to the EK *and* to the name of the attestation key (AK), which it
does only for a key that it holds itself (TPM 2.0 Library, Part 1, §24). A key of another TPM, or
one in software, signs just as well and fails here.

Whoever carries question and answer learns nothing before the TPM has spoken, and can at most keep
quiet.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from agent.formats.endorsement import CREDENTIAL, Challenge, Endorsement
from nodeclient.core.tpm.credential import make_credential
from nodeclient.core.tpm.endorsement import EndorsementError, check_endorsement
from nodeclient.core.tpm.public import AttestationKey, EkKey, parse_attestation_key

_ENTROPY = 48  # bytes, as `make_credential` takes them


@dataclass(frozen=True, slots=True)
class Activation:
    """One question to one TPM. ``answer`` is what only that TPM can say."""

    challenge: Challenge
    answer: bytes

    def is_answered_by(self, said: bytes) -> bool:
        """Whether the TPM opened the challenge."""
        return hmac.compare_digest(self.answer, said)


def check(
    endorsement: Endorsement, attestation_key: bytes, makers: Sequence[bytes]
) -> tuple[EkKey, AttestationKey]:
    """The two keys of an endorsement that can stand for a registered key, once it is activated.

    ``attestation_key``: digest in the registry. ``makers``: DER of the believed root certificates.
    Raises TpmError: another key, an unknown maker, keys or certificates out of shape.
    """
    key = parse_attestation_key(endorsement.ak)
    if key.digest != attestation_key:
        raise EndorsementError("endorsement: the attestation key is not the registered one")
    return check_endorsement(endorsement.certificates, endorsement.ek, makers), key


def new_activation(ek: EkKey, key: AttestationKey) -> Activation:
    """A fresh secret that only the TPM of ``ek`` can open, and only if ``key`` lives there."""
    secret = secrets.token_bytes(CREDENTIAL)
    entropy = secrets.token_bytes(_ENTROPY)
    return Activation(make_credential(ek, key.name, secret, entropy), secret)

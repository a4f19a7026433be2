"""Credential activation, the asker's side: does an attestation key live in the TPM of an EK?

Two facts are needed before a quote says anything about a TPM. The certificate chain of the
endorsement key (EK) ends at a maker whom the asker believes, so the EK lives in a real TPM. And that
TPM opened a secret sealed to the EK *and* to the name of the attestation key (AK), which it does
only for a key that it holds itself (TPM 2.0 Library, Part 1, §24). A key of another TPM, or one in
software, has a good signature and fails here.

The Pi that carries question and answer learns the secret's answer, never the secret before the TPM
opened it, and can at most keep quiet.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from agent.formats.endorsement import CREDENTIAL, Challenge, Endorsement
from agent.formats.hashes import sha256
from nodeclient.core.tpm.credential import make_credential
from nodeclient.core.tpm.endorsement import endorsement_fault

NO_KEY = bytes(32)  # what the registry holds of a Node whose Machine has no TPM


def fault_of(endorsement: Endorsement, attestation_key: bytes, makers: Sequence[bytes]) -> str:
    """Why this endorsement cannot stand for the registered key; empty: it can, once activated.

    ``attestation_key``: digest in the registry. ``makers``: DER of the believed root certificates.
    """
    if attestation_key == NO_KEY:
        return "the registry holds no attestation key of this node"
    if sha256(endorsement.ak) != attestation_key:
        return "the attestation key is not the one in the registry"
    return endorsement_fault(endorsement, makers)


@dataclass(frozen=True, slots=True)
class Activation:
    """One question to one TPM. ``answer`` is what only that TPM can say."""

    challenge: Challenge
    answer: bytes

    def is_answered_by(self, said: bytes) -> bool:
        """Whether the TPM opened the challenge."""
        return hmac.compare_digest(self.answer, said)


def new_activation(endorsement: Endorsement) -> Activation:
    """A fresh secret for the TPM of ``endorsement``. Raises TpmError for keys out of shape."""
    secret = secrets.token_bytes(CREDENTIAL)
    return Activation(make_credential(endorsement, secret), secret)

"""What every check is given, and what it may yield."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from agent.formats.evidence import TPM_QUOTED, Evidence
from nodeclient.core import claims
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Endorsements,
    Expected,
    ReferenceValues,
)
from nodeclient.core.reasons import Reason
from nodeclient.core.tpm.material import Material, read_material

Finding = Reason | tuple[Literal["not checked", "note"], str]
"""A reason against, a check that could not be made, or something worth telling."""


@dataclass(frozen=True)
class Case:
    """One Evidence and everything that it is judged by."""

    evidence: Evidence
    expected: Expected
    reference: ReferenceValues
    endorsements: Endorsements
    policy: AppraisalPolicy

    @cached_property
    def material(self) -> Material | None:
        """What the TPM stated, read once for all checks; None where no TPM vouches.

        Raises FormatError if a claim of it is missing.
        """
        if claims.vouch(self.evidence) != TPM_QUOTED:
            return None
        return read_material(self.evidence)


def not_checked(what: str) -> tuple[Literal["not checked"], str]:
    """Name a check that was not made."""
    return ("not checked", what)


def note(text: str) -> tuple[Literal["note"], str]:
    """Tell something that decides nothing."""
    return ("note", text)

"""What every check is given, and what it may yield."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.formats.evidence import Evidence
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Endorsements,
    Expected,
    ReferenceValues,
)
from nodeclient.core.reasons import Reason

Finding = Reason | tuple[Literal["not checked", "note"], str]
"""A reason against, a check that could not be made, or something worth telling."""


@dataclass(frozen=True, slots=True)
class Case:
    """One Evidence and everything that it is judged by."""

    evidence: Evidence
    expected: Expected
    reference: ReferenceValues
    endorsements: Endorsements
    policy: AppraisalPolicy


def not_checked(what: str) -> tuple[Literal["not checked"], str]:
    """Name a check that was not made."""
    return ("not checked", what)


def note(text: str) -> tuple[Literal["note"], str]:
    """Tell something that decides nothing."""
    return ("note", text)

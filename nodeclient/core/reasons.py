"""Why something was refused: one code per rule, so that every rule can be tested and counted.

Codes are stable words for programs; texts are one line for people and hold no secret of a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT = 200  # characters: reasons quote foreign claims and travel in answers


class Code(StrEnum):
    """Every rule of the owner policy and of appraisal."""

    # owner policy
    NO_POLICY = "no-policy"
    CAPSULE_NOT_NAMED = "capsule-not-named"
    CAPSULE_UNUSABLE = "capsule-unusable"
    FUNCTION_NOT_PERMITTED = "function-not-permitted"
    COMMAND_NOT_PERMITTED = "command-not-permitted"
    RUNTIME_NOT_PERMITTED = "runtime-not-permitted"
    RECEIVER_NOT_PERMITTED = "receiver-not-permitted"
    CONNECTION_NOT_PERMITTED = "connection-not-permitted"
    DEVICE_NOT_PERMITTED = "device-not-permitted"
    USES_SPENT = "uses-spent"
    EXPIRED = "expired"
    COMMITTEE_TOO_SMALL = "committee-too-small"
    EXECUTOR_UNKNOWN = "executor-unknown"
    REPUTATION_TOO_LOW = "reputation-too-low"
    DEPOSIT_TOO_LOW = "deposit-too-low"
    ROOT_CLASS_NOT_PERMITTED = "root-class-not-permitted"
    # both
    VOUCH_NOT_PERMITTED = "vouch-not-permitted"
    SIMULATED_NOT_PERMITTED = "simulated-not-permitted"
    # appraisal
    CLAIM_MALFORMED = "claim-malformed"
    NONCE = "nonce"
    SIGNATURE = "signature"
    CONTEXT = "context"
    SESSION = "session"
    HEADER = "header"
    BOOT_IMAGE = "boot-image"
    COMMAND_LINE = "command-line"
    AGENT = "agent"
    EXECUTABLE = "executable"
    MODULES = "modules"
    MOUNTS = "mounts"
    SOCKETS = "sockets"
    RUNTIME_IMAGE = "runtime-image"
    FUNCTION = "function"
    CONTAINERS = "containers"
    HARDENING = "hardening"
    NETWORK = "network"
    DEVICES = "devices"
    INVENTORY = "inventory"
    HOTPLUG = "hotplug"
    ISOLATION = "isolation"
    RANGES = "ranges"
    COUNTERS = "counters"
    OUTCOME = "outcome"
    RESULTS = "results"
    ERASURE = "erasure"
    DURING = "during"
    RESIDUE = "residue"
    SCRATCH = "scratch"
    # appraisal of a TPM's quote
    QUOTE = "quote"
    PCR = "pcr"
    EVENT_LOG = "event-log"
    IMA = "ima"
    ATTESTATION_KEY = "attestation-key"
    ENDORSEMENT = "endorsement"
    KERNEL = "kernel"
    ROOT_IMAGE = "root-image"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding."""

    code: Code
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def reason(code: Code, text: str) -> Reason:
    """A Reason whose text is printable, on one line and at most MAX_TEXT characters."""
    clean = "".join(char if char.isprintable() else "?" for char in text[: MAX_TEXT + 1])
    return Reason(code, clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT - 1] + "…")

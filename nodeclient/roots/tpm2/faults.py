"""What a TPM's answer means for a Node: response codes as errors with a next step.

Codes: TPM 2.0 Library, Part 2, §6.6; TSS 2.0 Overview, §2.5 (the layer that failed stands in the
upper half).
"""

from __future__ import annotations

from tpm2_pytss import TSS2_Exception
from tpm2_pytss.constants import TPM2_RC, TSS2_RC

from nodeclient.roots.base import RootAbsent, RootBusy, RootError, RootLocked

# The TPM's own word that the same command may do in a moment.
BUSY = frozenset({TPM2_RC.RETRY, TPM2_RC.TESTING, TPM2_RC.YIELDED, TPM2_RC.NV_RATE})
# No room for objects or sessions: without a resource manager, those of a process that was killed.
FULL = frozenset(
    {
        *(TPM2_RC.OBJECT_MEMORY, TPM2_RC.SESSION_MEMORY, TPM2_RC.MEMORY),
        *(TPM2_RC.OBJECT_HANDLES, TPM2_RC.SESSION_HANDLES),
    }
)
_LAYER = 0xFF0000
_ABSENT = TSS2_RC.TCTI_RC_LAYER
_HIERARCHY_PASSWORD = frozenset({TPM2_RC.AUTH_FAIL, TPM2_RC.BAD_AUTH})


def code_of(error: TSS2_Exception) -> int:
    """The code without the handle, parameter or session that it speaks of."""
    return int(error.error)


def is_about_content(error: TSS2_Exception) -> bool:
    """Whether the TPM, or the library before it, finds fault with what it was given."""
    code = int(error.rc)
    return bool(error.fmt1) if not code & _LAYER else not is_absent(error)


def is_absent(error: TSS2_Exception) -> bool:
    """Whether nothing answers at the other end."""
    return bool(int(error.rc) & _LAYER == _ABSENT)


def explain(error: TSS2_Exception, what: str) -> RootError:
    """The error to raise for a command that failed; ``what`` was to be done."""
    code = code_of(error)
    if is_absent(error):
        return RootAbsent(
            f"root: no TPM answers ({what})",
            "check that it is plugged in, that `root.tcti` names it and that this user may open it",
        )
    if code in BUSY:
        return RootBusy(f"root: the TPM is busy ({what})", "try again in a moment")
    if code == TPM2_RC.LOCKOUT:
        return RootLocked(
            f"root: the TPM is in dictionary-attack lockout ({what})",
            "find out who guessed; wait, or reset it: tpm2_dictionarylockout --clear-lockout",
        )
    if code == TPM2_RC.INITIALIZE:
        return RootAbsent(
            f"root: the TPM was not started up ({what})", "restart the Pi, or run tpm2_startup -c"
        )
    if code == TPM2_RC.FAILURE:
        return RootError(
            f"root: the TPM is in failure mode ({what})", "restart the Pi; else replace it"
        )
    if code in _HIERARCHY_PASSWORD:
        return RootError(
            f"root: the TPM's owner hierarchy has a password ({what})",
            "set an empty one: tpm2_changeauth -c owner",
        )
    return RootError(
        f"root: the TPM refused with {int(error.rc):#x} ({what})",
        "look that code up with tpm2_rc_decode, then try again",
    )

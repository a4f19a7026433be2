"""The policy "these registers read as now", under which a TPM seals."""

from __future__ import annotations

from typing import Any

from tpm2_pytss.constants import TPM2_CC

from agent.formats.hashes import sha256
from nodeclient.roots.base import RootError
from nodeclient.roots.tpm2 import objects
from nodeclient.roots.tpm2.device import Turn


def pcr_policy(turn: Turn, pcrs: frozenset[int]) -> bytes:
    """The digest of "these registers read as now"; empty without registers. Raises RootError.

    Part 3, §23.7: TPM2_PolicyPCR extends the empty policy by the selection and the hash of the
    registers. A trial session would say the same, and takes the library two milliseconds.
    """
    if not pcrs:
        return b""
    chosen = objects.selection(pcrs)
    registers: dict[int, bytes] = {}
    while missing := sorted(pcrs - registers.keys()):  # a TPM gives eight at a time
        _, said, values = turn.esys.pcr_read(objects.selection(missing))
        got = [number for number in missing if _selects(said, number)]
        if not got or len(got) != len(values):
            raise RootError(
                f"root: the TPM has no PCR {missing[0]} in its SHA-256 bank",
                "choose others in `root.pcrs`, or enable that bank",
            )
        registers.update(zip(got, map(bytes, values), strict=True))
    state = sha256(b"".join(registers[number] for number in sorted(registers)))
    command = int(TPM2_CC.PolicyPCR).to_bytes(4, "big")
    return sha256(bytes(32) + command + bytes(chosen.marshal()) + state)


def _selects(selection: Any, number: int) -> bool:
    """Whether a selection of one bank names a register."""
    return any(
        number // 8 < each.sizeofSelect and each.pcrSelect[number // 8] >> number % 8 & 1
        for each in selection
    )

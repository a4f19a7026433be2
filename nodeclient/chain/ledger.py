"""`AttestationLedger`: the two records of a Task."""

from __future__ import annotations

from nodeclient.chain.errors import AbiMismatch
from nodeclient.chain.view import Contract
from nodeclient.core.types import Phase, Record, TaskId, Verdict


class AttestationLedger(Contract):
    """Views of `AttestationLedger`."""

    NAME = "AttestationLedger"

    async def record(self, task: TaskId, phase: Phase) -> Record | None:
        """The record of a phase (BEFORE or AFTER); None as long as there is none."""
        verdict, evidence_root, votes = await self.view("record", task, phase)
        if verdict == 0:
            return None
        try:
            return Record(Verdict(verdict), evidence_root, votes)
        except ValueError as error:
            raise AbiMismatch(
                f"AttestationLedger.record: {verdict} is no verdict", "check the deployment file"
            ) from error

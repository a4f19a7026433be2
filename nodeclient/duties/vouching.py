"""The Executor's side of an endorsement: what its Machine's TPM is, and the TPM's own answers.

The Pi only carries them. It cannot answer for a TPM that it does not have, and what it drops or
changes makes its own Machine unbelieved.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.formats.endorsement import CREDENTIAL, MAX_ENDORSEMENT, Challenge
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.machine.desk import MachineDesk
from nodeclient.p2p.errors import PeerRefused
from nodeclient.p2p.messages import ActivationRequest

TPM_REFUSED = "tpm"  # the Agent's code: its TPM did not do what was asked


class Voucher:
    """``path``: the file that ``sealrun node enrol`` wrote."""

    def __init__(self, path: Path, machine: MachineDesk) -> None:
        self._path, self._machine = path, machine

    async def endorsement(self) -> bytes:
        """``Endorsement`` of this Node's Machine. Raises PeerRefused when it has none."""
        try:
            return await asyncio.to_thread(self._read)
        except OSError:
            raise PeerRefused("this node's machine has no TPM", "look at its evidence") from None

    async def activate(self, resume: bytes, request: ActivationRequest) -> bytes:
        """What the TPM opened (32 bytes), or nothing when it refused.

        Raises MachineError when the boot of ``resume`` is over.
        """
        challenge = Challenge(request.blob, request.secret)
        try:
            answer = await self._machine.call(resume, "activate", challenge.to_body())
        except MachineRefused as error:
            if error.code == TPM_REFUSED:
                return b""
            raise
        if not isinstance(answer, bytes) or len(answer) != CREDENTIAL:
            raise MachineError("the agent answered without a secret", "look at its log")
        return answer

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_ENDORSEMENT)

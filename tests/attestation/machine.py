"""Machines with a real TPM (swtpm) behind the Machine port: boot, power off, two calls."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from agent.formats.endorsement import Challenge, Endorsement
from agent.tpm import Tpm
from agent.tpm_keys import SHA256
from agent.tpm_wire import TpmError, Transport, execute, password, u16, u32
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.ports import Session
from tests.agent.swtpm import provision, running
from tests.core.tpm_builder import NO_ACTION, Measurement

_PCR_EXTEND = 0x182


@dataclass
class TpmMachine:
    """A PC that is nothing but its TPM."""

    folder: Path
    boots: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = provision(self.folder)
        self.issuer = self.folder / "maker" / "issuer.pem"
        self._power = contextlib.ExitStack()
        self.tpm: Tpm | None = None
        self.transport: Transport | None = None

    async def boot(self, boot_count: int) -> Session:
        await self.power_off()
        self.boots.append(boot_count)
        self.transport = self._power.enter_context(running(self.folder))
        self.tpm = Tpm(self.transport)
        return Session(b"", b"", b"", bytes([boot_count]))

    async def resume(self, resume: bytes) -> Session:
        if self.tpm is None:
            raise MachineError("the machine is off", "boot it")
        return Session(b"", b"", b"", resume)

    async def call(self, method: str, body: object) -> object:
        """As the Agent serves them."""
        self.calls.append(method)
        if self.tpm is None:
            raise MachineError("the machine is off", "boot it")
        if method == "endorsement":
            return self.endorsement().to_body()
        if method == "activate":
            try:
                return self.activate(Challenge.from_body(body))
            except TpmError as error:
                raise MachineRefused("tpm", str(error)) from error
        raise MachineRefused("unknown_method", f"the Agent has no {method}")

    async def erase(self, _resume: bytes, _memory: object) -> bytes:
        return b""

    async def power_off(self) -> None:
        self.tpm = None
        self._power.close()

    def endorsement(self) -> Endorsement:
        assert self.tpm is not None
        return self.tpm.endorsement()

    def activate(self, challenge: Challenge) -> bytes:
        assert self.tpm is not None
        return self.tpm.activate(challenge)

    def measure(self, events: list[Measurement]) -> None:
        """Extend the PCRs as firmware and kernel do."""
        assert self.transport is not None
        for event in events:
            if event.kind != NO_ACTION:
                digest = u32(1) + u16(SHA256) + event.extended
                execute(self.transport, _PCR_EXTEND, (event.pcr,), digest, authorise=(password(),))

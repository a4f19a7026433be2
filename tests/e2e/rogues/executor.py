"""Executors that run something else, answer with what is old, or fall silent."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent.formats.evidence import fold_nonces
from agent.formats.taskspec import FunctionRef, TaskSpec, commitment_of
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Role
from nodeclient.core.digests import header_digest
from nodeclient.core.types import Commitment
from nodeclient.duties.services import Services
from nodeclient.machine.process import AgentProcess
from nodeclient.runner import Effect, Emit
from tests.e2e.rogues import Rogue

Key = tuple[type[do.Action], Rogue]
OTHER_IMAGE = "other-image.hex"  # in the node's folder: the ID of another runtime image


def effects(services: Services, honest: Mapping[type, Effect]) -> dict[Key, Effect]:
    """What each rogue replaces."""
    folder = Path(services.settings.results).parent

    def other(encoded: bytes, rogue: Rogue) -> tuple[bytes, Commitment]:
        """Another TaskSpec and its commitment, which the Agent takes for the task's."""
        spec = TaskSpec.decode(encoded)
        if rogue is Rogue.OTHER_FUNCTION:
            wrong = FunctionRef(spec.inputs[0].cid, spec.function.owner, bytes(32))
            spec = replace(spec, function=wrong)
        else:
            spec = replace(spec, runtime_image=bytes.fromhex((folder / OTHER_IMAGE).read_text()))
        return spec.encode(), Commitment(commitment_of(spec.encode()))

    def lying(rogue: Rogue) -> dict[Key, Effect]:
        """Prepare another TaskSpec; let the Machine speak of it in its Evidence."""

        async def prepare(action: do.PrepareTask, emit: Emit) -> ev.OutcomeEvent | None:
            spec, committed = other(action.spec, rogue)
            lie = replace(action, spec=spec, task=replace(action.task, commitment=committed))
            return await honest[do.PrepareTask](lie, emit)

        async def evidence(action: do.TakeEvidence, emit: Emit) -> ev.OutcomeEvent | None:
            case = services.store.case(action.commitment)
            assert case is not None
            assert case.executor is not None
            _, committed = other(case.executor.spec, rogue)
            lie = replace(action, task=replace(action.task, commitment=committed))
            said = await honest[do.TakeEvidence](lie, emit)
            return signed_for(services, action, said)

        return {
            (do.PrepareTask, rogue): prepare,
            (do.TakeEvidence, rogue): evidence,
            (do.MonitorMachine, rogue): look_away,
        }

    async def look_away(action: do.MonitorMachine, emit: Emit) -> ev.OutcomeEvent | None:
        """A Node that lies about its Machine does not report itself."""
        return None

    async def boot_modified(action: do.BootMachine, emit: Emit) -> ev.OutcomeEvent | None:
        install = AgentProcess.install  # one Machine per node, so nothing else boots meanwhile

        def install_modified(process: AgentProcess) -> bytes:
            digest = install(process)
            with (process._folder / "boot" / "agent" / "seal.py").open("a") as source:
                source.write("\n# and a copy for me\n")
            return digest

        AgentProcess.install = install_modified  # type: ignore[assignment, method-assign]
        try:
            return await honest[do.BootMachine](action, emit)
        finally:
            AgentProcess.install = install  # type: ignore[method-assign]

    async def old_nonce(action: do.TakeEvidence, emit: Emit) -> ev.OutcomeEvent | None:
        """Evidence over nonces of another day, under a header over today's."""
        old = tuple((member, secrets.token_bytes(32)) for member, _ in action.nonces)
        said = await honest[do.TakeEvidence](replace(action, nonces=old), emit)
        return signed_for(services, action, said)

    halted: set[bytes] = set()  # a task hangs once: woken, the node goes on

    async def halt(action: do.Action, emit: Emit) -> ev.OutcomeEvent | None:
        """Silent from here on, as a process that hangs: connections stay open, nobody answers."""
        # the requester may draw, too
        if Role.EXECUTOR in services.me.roles and action.commitment not in halted:
            halted.add(action.commitment)
            os.kill(os.getpid(), signal.SIGSTOP)
            await asyncio.sleep(0)
        return await honest[type(action)](action, emit)

    async def draw_and_halt(action: do.SubmitDraw, emit: Emit) -> ev.OutcomeEvent | None:
        """Draw, promise nothing, and fall silent."""
        if Role.EXECUTOR in services.me.roles:
            await honest[do.SubmitDraw](replace(action, accept=False), emit)
        return await halt(action, emit)

    return {
        **lying(Rogue.OTHER_FUNCTION),
        **lying(Rogue.OTHER_IMAGE),
        (do.BootMachine, Rogue.OTHER_AGENT): boot_modified,
        (do.MonitorMachine, Rogue.OTHER_AGENT): look_away,
        (do.TakeEvidence, Rogue.OLD_NONCE): old_nonce,
        (do.SubmitDraw, Rogue.HALT_LEADING): halt,
        (do.SubmitDraw, Rogue.HALT_DRAWN): draw_and_halt,
        (do.SubmitAccept, Rogue.HALT_DRAWN): halt,  # ordered while the draw awaits its receipt
        (do.BootMachine, Rogue.HALT_ACCEPTED): halt,
        (do.WatchMachine, Rogue.HALT_ADMITTED): halt,
    }


def signed_for(
    services: Services, action: do.TakeEvidence, said: ev.OutcomeEvent | None
) -> ev.OutcomeEvent | None:
    """A header that is right in every field, over Evidence that is not."""
    if not isinstance(said, ev.EvidenceTaken):
        return said
    parameters, task = services.me.parameters, action.task
    header = replace(said.statement, nonce_root=fold_nonces(dict(action.nonces)))
    digest = header_digest(
        parameters.chain_id,
        parameters.ledger,
        task.id,
        task.commitment,
        services.me.address,
        action.phase,
        header,
    )
    signature = services.root.sign(digest)
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    return replace(said, statement=replace(header, r=r, s=s))

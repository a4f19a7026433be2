"""Effects before the Machine: the Node's ticket, and whether a TaskSpec can be run here."""

from __future__ import annotations

from agent.formats.taskspec import TaskSpec
from nodeclient.core import actions as do
from nodeclient.core import ecvrf, sortition
from nodeclient.core import events as ev
from nodeclient.core.ecvrf import SECP256K1_TAI
from nodeclient.core.images import ImageKind
from nodeclient.duties.services import Services
from nodeclient.identity.registration import NO_MACHINE_KEY
from nodeclient.runner import Effect, Emit

NO_ERASER = (
    "the machine has a TPM and no eraser; sealrun image build eraser, have it approved, and name "
    "it as machine.eraser"
)
FACTOR_ONE = 10_000  # basis points: the reputation factor that changes nothing


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""
    me, chain = services.me, services.chain

    async def evaluate_ticket(action: do.EvaluateTicket, emit: Emit) -> ev.OutcomeEvent:
        """Pure in its inputs: the ECVRF output is the same every time."""
        task, parameters = action.task, me.parameters
        if services.ban.standing() is not None:
            services.note(action.commitment, "no candidate: the machine is banned")
            return ev.TicketEvaluated(commitment=action.commitment, ticket=0, claim_at=None)
        if await lacks_eraser():
            services.note(action.commitment, f"no candidate: {NO_ERASER}")
            return ev.TicketEvaluated(commitment=action.commitment, ticket=0, claim_at=None)
        if await chain.claim_weight(me.address, task.posted_at) == 0:
            return ev.TicketEvaluated(commitment=action.commitment, ticket=0, claim_at=None)
        _, prevrandao = await chain.block_header(parameters.entropy_block(task))
        point = sortition.task_alpha(
            parameters.chain_id, parameters.market, task.id, me.address, prevrandao
        )
        proof = ecvrf.prove(SECP256K1_TAI, services.keys.vrf, point)
        beta = ecvrf.proof_to_hash(SECP256K1_TAI, proof)
        ticket = await chain.ticket_of(beta, me.address, task.posted_at)
        # A ticket is divided by weight and reputation factor; the average factor is about one.
        total = await chain.total_weight() * FACTOR_ONE
        delay = sortition.claim_delay_blocks(ticket, total, parameters.claim_window)
        first = parameters.entropy_block(task) + 1
        return ev.TicketEvaluated(
            commitment=action.commitment, ticket=ticket, claim_at=first + delay
        )

    async def vet(action: do.VetTask, emit: Emit) -> ev.OutcomeEvent:
        """Reads only."""
        spec = TaskSpec.decode(action.spec)
        reasons = []
        if not await chain.is_approved(spec.runtime_image, ImageKind.RUNTIME):
            reasons.append("the runtime image is not approved as one")
        if services.reference.image_path(spec.runtime_image) is None:
            reasons.append("the runtime image is not on this node")
        if services.ban.standing() is not None:
            reasons.append("the machine of this node is banned")
        if await lacks_eraser():
            reasons.append(NO_ERASER)
        for reason in reasons:
            services.note(action.commitment, f"not accepted: {reason}")
        return ev.TaskVetted(commitment=action.commitment, reasons=tuple(reasons))

    async def lacks_eraser() -> bool:
        """Whether members would refuse the run at its end, for want of a proof of erasure."""
        if services.settings.erases:
            return False
        record = await chain.node(me.address)
        return record is not None and record.attestation_key != NO_MACHINE_KEY

    return {do.EvaluateTicket: evaluate_ticket, do.VetTask: vet}

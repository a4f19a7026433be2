"""Effects of the requester: consents before posting, the TaskSpec after the draw."""

from __future__ import annotations

import asyncio

from agent.formats import cbor, hpke
from agent.formats.protocol import taskspec_info
from agent.formats.taskspec import TaskSpec
from nodeclient.capsules.consents import owners_of
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.types import Address
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.p2p.errors import PeerDeclined, PeerError
from nodeclient.p2p.messages import Brief, ConsentRequest
from nodeclient.runner import Effect, Emit

# A silent owner is asked for so long before the order is given back: longer than a restart, and
# below what the operator's own request waits (``control.POST_SECONDS``).
CONSENT_SECONDS = 40.0


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""

    async def gather_consents(action: do.GatherConsents, emit: Emit) -> ev.OutcomeEvent:
        """Asks every owner. Harmless twice: an owner signs the same consent again."""
        spec = TaskSpec.decode(action.spec)
        owners = [owner for owner in owners_of(spec) if owner != services.me.address]
        answers = await asyncio.gather(*(ask_owner(owner, action) for owner in owners))
        refusals = tuple(a for a in answers if isinstance(a, str))
        if refusals:
            return ev.ConsentRefused(commitment=action.commitment, reasons=refusals)
        consents = tuple(a for a in answers if isinstance(a, bytes))
        return ev.ConsentsGathered(commitment=action.commitment, consents=consents)

    async def ask_owner(owner: Address, action: do.GatherConsents) -> bytes | str:
        """The consent, or why there is none."""
        clock = asyncio.get_running_loop()
        end = clock.time() + CONSENT_SECONDS
        request = ConsentRequest(action.spec, action.committee_size)
        while True:
            try:
                return await services.ask(owner, "consent", request)
            except PeerDeclined as error:
                return f"owner 0x{owner.hex()} refused: {error.message}"
            except PeerError as error:
                if clock.time() > end:
                    return f"owner 0x{owner.hex()} does not answer: {error}"
            await asyncio.sleep(RETRY_SECONDS)

    async def send_brief(action: do.SendBrief, emit: Emit) -> ev.OutcomeEvent:
        """To all at once, so that a silent member keeps nobody waiting; to each until it has it.

        Harmless twice: who has the TaskSpec only acknowledges.
        """

        async def insist(peer: Address) -> None:
            while True:
                if await briefed(peer, action):
                    return
                await asyncio.sleep(RETRY_SECONDS)

        async with asyncio.TaskGroup() as sending:
            for peer in {action.executor, *action.members}:
                sending.create_task(insist(peer))
        return ev.ActionDone(commitment=action.commitment, action=do.SendBrief.__name__)

    async def briefed(peer: Address, action: do.SendBrief) -> bool:
        parameters = services.me.parameters
        info = taskspec_info(parameters.chain_id, parameters.market, action.task.id)
        plain = cbor.encode([action.spec, list(action.consents)])
        try:
            contact = services.directory.contact(peer)
            sealed = hpke.seal(contact.hpke, info, plain)
            await services.ask(peer, "brief", Brief(action.commitment, sealed))
        except PeerError:
            return False
        return True

    return {do.GatherConsents: gather_consents, do.SendBrief: send_brief}

"""Effects that send transactions. Harmless twice: the sender sends one order key once for ever."""

from __future__ import annotations

from nodeclient.chain.calls import signed_vote
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.sortition import task_alpha
from nodeclient.core.types import Phase
from nodeclient.core.vrf_witness import prove
from nodeclient.duties.services import Services
from nodeclient.errors import Reverted
from nodeclient.ports import Order
from nodeclient.runner import Effect, Emit
from nodeclient.store.freezing import row_key

MARKET = "TaskMarket"
LEDGER = "AttestationLedger"


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""

    async def send(
        action: do.Action,
        function: str,
        args: tuple[object, ...],
        value: int = 0,
        contract: str = MARKET,
    ) -> ev.OutcomeEvent:
        order = Order(row_key(action).hex(), contract, function, args, value)
        try:
            receipt = await services.sender.execute(order)
        except Reverted as error:
            services.note(action.commitment, f"{function} was refused: {error.reason}")
            return ev.TransactionRejected(
                commitment=action.commitment, order=function, reason=error.reason
            )
        services.note(
            action.commitment,
            f"{function}: 0x{receipt.tx_hash.hex()} in block {receipt.block}, "
            f"gas {receipt.gas_used}",
        )
        return ev.TransactionMined(commitment=action.commitment, order=function)

    async def post(action: do.SubmitPost, emit: Emit) -> ev.OutcomeEvent:
        fees = action.executor_fee + action.committee_size * action.member_fee
        args = (
            action.spec_hash,
            action.number,
            action.committee_size,
            action.class_id,
            action.executor_fee,
            action.member_fee,
        )
        return await send(action, "post", args, fees + services.me.parameters.posting_fee)

    async def claim(action: do.SubmitClaim, emit: Emit) -> ev.OutcomeEvent:
        # Banned since the ticket was evaluated: tried again while the race lasts, for a pardon.
        services.ban.check()
        parameters = services.me.parameters
        number = parameters.entropy_block(action.task)
        header, prevrandao = await services.chain.block_header(number)
        point = task_alpha(
            parameters.chain_id, parameters.market, action.task.id, services.me.address, prevrandao
        )
        proof = prove(services.keys.vrf, point)
        return await send(action, "claim", (action.task, header, *proof.as_arguments()))

    async def draw(action: do.SubmitDraw, emit: Emit) -> ev.OutcomeEvent:
        number = services.me.parameters.draw_entropy_block(action.task)
        header, _ = await services.chain.block_header(number)
        return await send(action, "draw", (action.task, header, action.accept))

    async def accept(action: do.SubmitAccept, emit: Emit) -> ev.OutcomeEvent:
        return await send(action, "accept", (action.task,))

    async def record(action: do.SubmitRecord, emit: Emit) -> ev.OutcomeEvent:
        function = "admit" if action.phase is Phase.BEFORE else "finish"
        args = (action.task, action.members, action.statement, action.ballot)
        return await send(action, function, args)

    async def refuse(action: do.SubmitRefuse, emit: Emit) -> ev.OutcomeEvent:
        args = (
            action.task,
            action.members,
            int(action.phase),
            action.attempt,
            action.header,
            action.ballot,
        )
        return await send(action, "refuse", args)

    async def excuse(action: do.SubmitExcuse, emit: Emit) -> ev.OutcomeEvent:
        args = (action.members, action.seat, *signed_vote(action.vote))
        return await send(action, "excuse", args, contract=LEDGER)

    async def expire(action: do.SubmitExpire, emit: Emit) -> ev.OutcomeEvent:
        return await send(action, "expire", (action.task,))

    async def fail_barred(action: do.SubmitFailBarred, emit: Emit) -> ev.OutcomeEvent:
        return await send(action, "fail_barred", (action.task, action.members))

    return {
        do.SubmitPost: post,
        do.SubmitClaim: claim,
        do.SubmitDraw: draw,
        do.SubmitAccept: accept,
        do.SubmitRecord: record,
        do.SubmitRefuse: refuse,
        do.SubmitExcuse: excuse,
        do.SubmitExpire: expire,
        do.SubmitFailBarred: fail_barred,
    }

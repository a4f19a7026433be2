"""Orders become transactions: at most once for one order key, whatever crashes.

The argument: an order is signed under one nonce, journalled durably, and only then sent. Whoever
asks for the same key again, after a crash say, finds the journalled attempt and looks at the chain
first: mined → done; known to the node → wait; never arrived → the *same* bytes are sent again. A
second nonce is taken only when the chain has used the first one for another transaction, so that
the old bytes can never be mined.

Before anything is signed the order is simulated; a revert costs nothing and is `Reverted`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account as Keys
from eth_utils.address import to_checksum_address

from nodeclient.chain import attempts as book
from nodeclient.chain.account import Account
from nodeclient.chain.attempts import Attempts
from nodeclient.chain.calls import Call, build_call
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.errors import (
    ChainUnavailable,
    OrderReverted,
    Reverted,
    RpcRefused,
    Unconfirmed,
)
from nodeclient.chain.fees import Fees, FeeSettings, bump, quote
from nodeclient.chain.rpc import Rpc, blob, quantity
from nodeclient.core.types import Address
from nodeclient.memory import Secret
from nodeclient.ports import Journal, Order, Receipt

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SendSettings:
    """How long to wait, in seconds. Defaults are those of the `embedded` profile.

    A transaction that is not mined after `stuck_seconds` is replaced with higher fees, at most
    `replacements` times; then `Unconfirmed`. `signings` bounds how many nonces one call may try.
    """

    fees: FeeSettings = field(default_factory=FeeSettings)
    poll_seconds: float = 0.25
    stuck_seconds: float = 30.0
    replacements: int = 4
    signings: int = 3


class Sender:
    """Implements `nodeclient.ports.ChainSender` for one account on one RPC endpoint."""

    def __init__(
        self,
        rpc: Rpc,
        deployment: Deployment,
        journal: Journal,
        private_key: bytes,
        settings: SendSettings | None = None,
    ) -> None:
        """`private_key` is the account's secp256k1 key, 32 bytes; it lives on a locked page here,
        and as a copy while a transaction is signed."""
        self._deployment = deployment
        self._journal = journal
        self._secret = Secret(private_key)
        self._chain = Account(rpc, str(Keys.from_key(private_key).address))
        self._settings = settings or SendSettings()
        # From choosing a nonce until it is sent: two workers must not choose the same.
        self._signing = asyncio.Lock()

    @property
    def address(self) -> Address:
        """The account that pays and that the contracts see."""
        return Address(bytes.fromhex(self._chain.address[2:]))

    def forget(self) -> None:
        """Overwrite the key: nothing is signed any more."""
        self._secret.wipe()

    async def execute(self, order: Order) -> Receipt:
        """Carry out an order once and return its receipt.

        Raises `Reverted` with the contract's reason, in simulation or when mined, and
        `ChainUnavailable` when asking again later with the same key makes sense (`FeeTooHigh`,
        `Unconfirmed` and `AbiMismatch` are of that kind).
        """
        call = build_call(self._deployment, order)
        for _ in range(self._settings.signings):
            seen = book.load(self._journal, order.key)
            made = await self._revive(order, call, seen) if seen else None
            if made is None:
                made = await self._sign_and_send(order, call, seen)
            receipt = await self._confirm(order, call, made)
            if receipt is not None:
                return await self._conclude(order, call, receipt)
        raise Unconfirmed(
            f"{call.label}: other transactions of this account keep taking its nonce",
            "use the account for this Node only",
        )

    async def _revive(self, order: Order, call: Call, seen: Attempts) -> Attempts | None:
        """Look at the chain for earlier attempts; None when a new nonce may be taken."""
        if await self._chain.receipt(seen) is not None or await self._chain.is_known(seen):
            return seen
        if await self._chain.is_used(seen.nonce):
            # The receipt may lag behind the count on a load-balanced endpoint: look again.
            await asyncio.sleep(self._settings.poll_seconds)
            return seen if await self._chain.receipt(seen) is not None else None
        try:
            await self._chain.gas_limit(call)
        except Reverted:
            self._journal.finish(order.key)  # the bytes are not sent again: the nonce is free
            raise
        try:
            return seen if await self._chain.broadcast(seen.raws[-1]) else None
        except RpcRefused:  # most likely its fees are too low by now
            fees = quote(await self._chain.base_fee(), self._settings.fees)
            return await self._replace(order, call, seen, fees)

    async def _sign_and_send(self, order: Order, call: Call, seen: Attempts | None) -> Attempts:
        async with self._signing:
            newer = book.load(self._journal, order.key)
            if newer is not None and newer != seen:
                return newer  # another worker executes the same order
            gas = await self._chain.gas_limit(call)
            fees = quote(await self._chain.base_fee(), self._settings.fees)
            nonce = self._journal.next_nonce(await self._chain.count("pending"))
            made = Attempts(nonce, (self._sign(call, nonce, gas, fees),))
            book.save(self._journal, order.key, made)
            try:
                await self._chain.broadcast(made.raws[0])
            except RpcRefused:
                self._journal.finish(order.key)
                raise
            except ChainUnavailable:
                pass  # it may have arrived or not: confirming finds out and sends it again
            return made

    def _sign(self, call: Call, nonce: int, gas: int, fees: Fees) -> bytes:
        signed = Keys.from_key(self._secret.reveal()).sign_transaction(
            {
                "type": 2,
                "chainId": self._deployment.chain_id,
                "nonce": nonce,
                "maxFeePerGas": fees.max_fee,
                "maxPriorityFeePerGas": fees.tip,
                "gas": gas,
                "to": to_checksum_address(call.to),
                "value": call.value,
                "data": call.data,
            }
        )
        return bytes(signed.raw_transaction)

    async def _confirm(self, order: Order, call: Call, made: Attempts) -> dict[str, Any] | None:
        """Wait for a receipt, replacing what is stuck; None when the nonce went elsewhere.

        Raises `Unconfirmed` when the time is over.
        """
        for left in range(self._settings.replacements, -1, -1):
            receipt, over = await self._wait(made)
            if over:
                return receipt
            if left:
                try:
                    made = await self._unstick(order, call, made)
                except ChainUnavailable as error:
                    log.warning("%s is not confirmed yet: %s", call.label, error)
        raise Unconfirmed(
            f"{call.label}: not mined yet", "it stays in the journal and is looked for again"
        )

    async def _wait(self, made: Attempts) -> tuple[dict[str, Any] | None, bool]:
        """Poll until `stuck_seconds` are over: (receipt, whether the nonce is used up).

        Outages do not end the wait.
        """
        clock = asyncio.get_running_loop()
        end = clock.time() + self._settings.stuck_seconds
        while True:
            try:
                # The count first: were it asked last, a transaction mined in between the two
                # questions would look like one that lost its nonce.
                used = await self._chain.is_used(made.nonce)
                receipt = await self._chain.receipt(made)
                if used and receipt is None:
                    await asyncio.sleep(self._settings.poll_seconds)
                    receipt = await self._chain.receipt(made)
                if used or receipt is not None:
                    return receipt, True
            except ChainUnavailable:
                pass
            if clock.time() >= end:
                return None, False
            await asyncio.sleep(self._settings.poll_seconds)

    async def _unstick(self, order: Order, call: Call, made: Attempts) -> Attempts:
        """Fill a gap below the nonce, send lost bytes again, or replace with higher fees."""
        await self._fill_gap(made.nonce)
        if not await self._chain.is_known(made):
            await self._chain.broadcast(made.raws[-1])
            return made
        fees = bump(made.fees, await self._chain.base_fee(), self._settings.fees)
        return made if fees is None else await self._replace(order, call, made, fees)

    async def _replace(self, order: Order, call: Call, made: Attempts, fees: Fees) -> Attempts:
        """Sign the same order again under the same nonce: only one of them can be mined."""
        raw = self._sign(call, made.nonce, made.gas, fees)
        replaced = Attempts(made.nonce, (*made.raws, raw))
        book.save(self._journal, order.key, replaced)
        await self._chain.broadcast(raw)
        return replaced

    async def _fill_gap(self, nonce: int) -> None:
        """Use up nonces below `nonce` that were journalled for orders nobody asks for any more.

        An empty transfer to oneself takes the nonce; should the old order come back, it finds its
        nonce used and takes a new one.
        """
        async with self._signing:
            for missing in range(await self._chain.count("pending"), nonce):
                fees = quote(await self._chain.base_fee(), self._settings.fees)
                raw = self._sign(Call("gap", self.address, b"", 0), missing, 21_000, fees)
                key = f"gap/{missing}"
                book.save(self._journal, key, Attempts(missing, (raw,)))
                await self._chain.broadcast(raw)
                self._journal.finish(key)

    async def _conclude(self, order: Order, call: Call, receipt: dict[str, Any]) -> Receipt:
        """Close the journal. Raises `Reverted` when the mined transaction failed."""
        self._journal.finish(order.key)
        tx_hash = blob(receipt.get("transactionHash"), 32)
        block = quantity(receipt.get("blockNumber"))
        if quantity(receipt.get("status")) != 1:
            raise OrderReverted(call.label, await self._chain.why_failed(call, block), tx_hash)
        return Receipt(order.key, tx_hash, block, quantity(receipt.get("gasUsed")))

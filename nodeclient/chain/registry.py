"""`NodeRegistry`: identity, Deposit and status of Nodes."""

from __future__ import annotations

from nodeclient.chain.errors import AbiMismatch
from nodeclient.chain.view import Contract
from nodeclient.core.registration import Registration
from nodeclient.core.types import (
    ZERO_ADDRESS,
    Address,
    NodeRecord,
    NodeStatus,
    RootClass,
    TaskId,
)
from nodeclient.ports import Order


class NodeRegistry(Contract):
    """Views and orders of `NodeRegistry`. Deposits in wei, `fixed_at` in blocks."""

    NAME = "NodeRegistry"

    async def node(self, address: Address) -> NodeRecord | None:
        """All about a Node; None when the account never registered."""
        fields = await self.view("node", address)
        (number, status, root_class, root_x, root_y, vrf_x, vrf_prefix) = fields[:7]
        (hardware_id, attestation_key, contact, deposit, tier, engaged, fixed_at, _) = fields[7:]
        if number == 0:
            return None
        try:
            return NodeRecord(
                id=number,
                address=address,
                status=NodeStatus(status),
                root_class=RootClass(root_class),
                root_public=root_x.to_bytes(32, "big") + root_y.to_bytes(32, "big"),
                vrf_public=vrf_prefix.to_bytes(1, "big") + vrf_x.to_bytes(32, "big"),
                hardware_id=hardware_id,
                attestation_key=attestation_key,
                contact_digest=contact,
                deposit=deposit,
                tier=tier,
                engaged=engaged,
                fixed_at=fixed_at,
            )
        except (ValueError, OverflowError) as error:
            raise AbiMismatch(
                "NodeRegistry.node: a value out of range", "check the deployment file"
            ) from error

    async def exit_at(self, address: Address) -> int:
        """The block from which an EXITING Node's Deposit can leave; 0 before `exit`."""
        return int((await self.view("node", address))[14])

    async def node_at(self, number: int) -> Address | None:
        """The account of a Node id (from 1 on); None beyond the last."""
        found = Address(await self.view("node_at", number))
        return None if found == ZERO_ADDRESS else found

    async def accounts(self) -> list[Address]:
        """The accounts of all Nodes that ever registered, in the order of their ids."""
        found: list[Address] = []
        while (account := await self.node_at(len(found) + 1)) is not None:
            found.append(account)
        return found

    async def is_drawable(self, address: Address) -> bool:
        """Whether a Node has a place in the draw."""
        number = int(await self.view("drawable"))
        # Without it there is one less, so as many cannot be drawn.
        return number > 0 and not await self.view("can_draw", number, address)

    async def holder(self, hardware_id: bytes) -> Address:
        """Who holds a hardware id; no Node's account if nobody does."""
        return Address(await self.view("holder", hardware_id))

    async def maker_of(self, address: Address) -> bytes:
        """Digest of who made a Node's root; zero for a SOFTWARE root and before admission."""
        return bytes(await self.view("maker_of", address))

    async def claim_weight(self, address: Address, posted_at: int) -> int:
        """What a Ticket for a Task posted at that block is divided by; 0: not eligible."""
        return int(await self.view("claim_weight", address, posted_at))

    async def total_weight(self) -> int:
        """Weight of all ACTIVE Nodes."""
        return int(await self.view("total_weight"))

    async def tiers(self) -> tuple[int, ...]:
        """How many Nodes of each tier are in the draw; one of tier c weighs 2^c."""
        return tuple(int(count) for count in await self.view("tiers"))

    async def frozen_by(self) -> TaskId | None:
        """The Task that must be drawn before the draw structure may change."""
        return TaskId(int(await self.view("frozen_by"))) or None

    async def unit(self) -> int:
        """The smallest Deposit of an ACTIVE Node, in wei."""
        return int(await self.view("unit"))

    async def unbonding(self) -> int:
        """Blocks between `exit` and `withdraw_deposit`."""
        return int(await self.view("unbonding"))


def register(key: str, registration: Registration, deposit: int, *, join: bool) -> Order:
    """Register the sender as the Node of a root-signed registration, with `deposit` wei.

    `join` False: PAUSED, never drawn, still a peer.
    """
    r, s = registration.signature
    args = (registration.keys, registration.contact, join, r, s)
    return Order(key, NodeRegistry.NAME, "register", args, deposit)


def set_contact(key: str, contact: bytes, signature: tuple[int, int]) -> Order:
    """Publish another contact record, root-signed (`digests.contact_digest`)."""
    return Order(key, NodeRegistry.NAME, "set_contact", (contact, *signature))


def top_up(key: str, amount: int) -> Order:
    """Add `amount` wei to the sender's Deposit."""
    return Order(key, NodeRegistry.NAME, "top_up", (), amount)


def pause(key: str) -> Order:
    """Leave the draw; a Task that runs has to be finished all the same."""
    return Order(key, NodeRegistry.NAME, "pause", ())


def resume(key: str) -> Order:
    """Come back into the draw, for Tasks posted from now on."""
    return Order(key, NodeRegistry.NAME, "resume", ())


def sync(key: str, node: Address) -> Order:
    """Bring a barred Node's status and place in the draw in line with the bar."""
    return Order(key, NodeRegistry.NAME, "sync", (node,))


def leave(key: str) -> Order:
    """Start unbonding: the sender is no longer drawn."""
    return Order(key, NodeRegistry.NAME, "exit", ())


def withdraw_deposit(key: str) -> Order:
    """Take the Deposit out after unbonding."""
    return Order(key, NodeRegistry.NAME, "withdraw_deposit", ())

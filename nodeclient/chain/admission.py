"""`AdmissionLedger`: which hardware takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_utils.address import to_checksum_address

from nodeclient.chain.deployment import Deployment
from nodeclient.chain.errors import AbiMismatch
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc, blob
from nodeclient.chain.view import Contract
from nodeclient.core.admission import AdmissionParameters, Motion, MotionKind, MotionState
from nodeclient.core.types import ZERO_ADDRESS, ZERO_HASH, Address, Verdict
from nodeclient.ports import Order

Signature = tuple[int, int]
"""(r, vs) as in EIP-2098."""
NO_VOUCH: tuple[int, Signature] = (0, (0, 0))


class AdmissionLedger(Contract):
    """Views of `AdmissionLedger`. Spans in blocks, the fee in wei."""

    NAME = "AdmissionLedger"

    def __init__(self, rpc: Rpc, deployment: Deployment, *, at: int | None = None) -> None:
        """See ``Contract``."""
        super().__init__(rpc, deployment, at=at)
        self._registry = NodeRegistry(rpc, deployment, at=at)

    async def parameters(self) -> AdmissionParameters:
        """The constructor's immutables."""
        return AdmissionParameters(*(int(value) for value in await self.view("parameters")))

    async def state(self, motion: int) -> MotionState | None:
        """Where a motion stands; None: there is none of that id."""
        found = int(await self.view("state", motion))
        try:
            return MotionState(found) if found else None
        except ValueError as error:
            raise AbiMismatch(
                f"AdmissionLedger.state: {found} is no state", "check the deployment file"
            ) from error

    async def round(self) -> tuple[int, bool] | None:
        """(block of the latest round, whether it is drawn); None: there was none."""
        block, drawn = await self.view("round")
        return (int(block), bool(drawn)) if block else None

    async def committee(self, round: int) -> bytes | None:
        """keccak256(abi.encode(address[])) of a round's members; None until it is drawn."""
        found = bytes(await self.view("committee", round))
        return None if found == ZERO_HASH else found

    async def motion(self, number: int, since: int) -> Motion | None:
        """A motion as its event tells it; None: none was opened from block `since` on."""
        found = await self._logs("MotionOpened", since, [number.to_bytes(32, "big")])
        return _motion(found[-1]) if found else None

    async def motions_of(self, proposer: Address, since: int) -> list[Motion]:
        """What an account has moved from block `since` on, the oldest first."""
        topics = [None, None, bytes(12) + proposer]
        return [_motion(one) for one in await self._logs("MotionOpened", since, topics)]

    async def motions(self, since: int) -> list[Motion]:
        """All that was moved from block `since` on, the oldest first."""
        return [_motion(one) for one in await self._logs("MotionOpened", since, [])]

    async def accused(self, motion: Motion, seats: Sequence[Address]) -> frozenset[Address]:
        """Who of these a motion would bar."""
        if motion.kind is MotionKind.BAR:
            return frozenset({await self._registry.holder(motion.subject)}.intersection(seats))
        if motion.kind is MotionKind.BAR_MAKER:
            made = [one for one in seats if await self._registry.maker_of(one) == motion.subject]
            return frozenset(made)
        return frozenset()

    async def members(self, round: int) -> tuple[Address, ...] | None:
        """The Committee of a round by seat; None until it is drawn."""
        if await self.committee(round) is None:
            return None  # endpoints refuse to look for logs in blocks that are not there yet
        found = await self._logs("RoundDrawn", round, [round.to_bytes(32, "big")])
        return tuple(Address(one) for one in found[-1]["members"]) if found else None

    async def _logs(
        self, name: str, since: int, topics: Sequence[bytes | None]
    ) -> list[Mapping[str, Any]]:
        """Events from block `since` on, whose indexed fields are `topics` (None: any).

        Raises `AbiMismatch`, `ChainUnavailable`.
        """
        layouts = [one for one in self._deployed.interface.logs.values() if one.name == name]
        if len(layouts) != 1:
            raise AbiMismatch(f"{self.NAME} has no event {name}", "deploy again with this version")
        wanted = [layouts[0].topic, *topics]
        question = {
            "address": to_checksum_address(self.address),
            "fromBlock": hex(max(since, self._deployed.block)),
            "toBlock": self._block,
            "topics": [None if one is None else "0x" + one.hex() for one in wanted],
        }
        answer = await self._rpc.request("eth_getLogs", [question])
        try:
            return [
                layouts[0].decode([blob(one, 32) for one in log["topics"]], blob(log["data"]))
                for log in answer
                if not log.get("removed")
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise AbiMismatch(
                f"{name}: a log does not fit its event ({error})", "check the deployment file"
            ) from error

    async def is_barred(self, who: Address) -> bool:
        """Whether a vote barred a Node: it decides nothing any more."""
        return bool(await self._registry.view("barred_by_vote", who))

    async def is_maker_barred(self, maker: bytes) -> bool:
        """Whether a vote barred all hardware of a maker (its digest, 32 bytes)."""
        return bool(await self._registry.view("is_maker_barred", maker))

    async def is_admitter(self, who: Address) -> bool:
        """Whether an account can vouch for a Zymkey."""
        return bool(await self.view("is_admitter", who))

    async def bootstrap(self) -> Address | None:
        """Who admits without a vote; None once that is given up."""
        found = Address(await self.view("bootstrap"))
        return None if found == ZERO_ADDRESS else found


def _motion(fields: Mapping[str, Any]) -> Motion:
    try:
        kind = MotionKind(fields["kind"])
    except ValueError as error:
        raise AbiMismatch("MotionOpened: an unknown kind", "update the node") from error
    return Motion(
        id=fields["motion"],
        kind=kind,
        proposer=Address(fields["proposer"]),
        number=fields["number"],
        subject=fields["subject"],
        maker=fields["maker"],
        evidence=fields["evidence"],
        round=fields["round"],
    )


def request(
    key: str,
    fee: int,
    maker: bytes,
    evidence: bytes,
    vouch: tuple[int, Signature] = NO_VOUCH,
) -> Order:
    """Ask for the sender's admission; `fee` wei are burned.

    `evidence`: keccak256 of the endorsement. `vouch`: (last block, signature) of an admitter.
    """
    return Order(key, AdmissionLedger.NAME, "request", (maker, evidence, vouch), fee)


def propose(key: str, fee: int, kind: MotionKind, subject: bytes, evidence: bytes) -> Order:
    """Move to bar something, or about an admitter; `fee` wei are burned."""
    return Order(key, AdmissionLedger.NAME, "propose", (kind, subject, evidence), fee)


def draw(key: str, header: bytes) -> Order:
    """Draw the round whose block has this RLP header."""
    return Order(key, AdmissionLedger.NAME, "draw", (header,))


def decide(
    key: str,
    motion: Motion,
    committee: Sequence[Address],
    verdict: Verdict,
    valid_until: int,
    votes: Sequence[tuple[int, Signature]],
) -> Order:
    """Bring the votes that decide a motion: (seat, signature), in ascending order of seats."""
    voters = sum(1 << seat for seat, _ in votes)
    ballot = (valid_until, voters, tuple(signature for _, signature in votes))
    args = (motion, tuple(committee), verdict, ballot)
    return Order(key, AdmissionLedger.NAME, "decide", args)


def admit_bootstrap(key: str, node: Address, maker: bytes) -> Order:
    """The bootstrap admitter's word, instead of a vote."""
    return Order(key, AdmissionLedger.NAME, "admit_bootstrap", (node, maker))


def renounce(key: str) -> Order:
    """Give the bootstrap admitter's powers up for good."""
    return Order(key, AdmissionLedger.NAME, "renounce", ())

"""A log of the deployment's contracts → a typed event, or nothing.

One table: (contract, event name) → constructor. Events that no role needs (`Withdrawn`,
`ReputationChanged`, …) are not in it, so that the RPC is never asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodeclient.chain.abi import LogLayout
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.errors import AbiMismatch
from nodeclient.chain.rpc import blob, quantity
from nodeclient.core import events as ev
from nodeclient.core.types import BlockRef, NodeStatus

Where = dict[str, Any]
Fields = Mapping[str, Any]

_TABLE: dict[tuple[str, str], Callable[[Where, Fields], ev.ChainEvent]] = {
    ("TaskMarket", "TaskPosted"): lambda at, f: ev.TaskPosted(
        **at,
        task=f["task"],
        requester=f["requester"],
        commitment=f["commitment"],
        executor_fee=f["executor_fee"],
        member_fee=f["member_fee"],
        committee_size=f["committee_size"],
        class_id=f["class_id"],
    ),
    ("TaskMarket", "TaskClaimed"): lambda at, f: ev.TaskClaimed(
        **at, task=f["task"], leader=f["leader"], ticket=f["ticket"], beta=f["beta"]
    ),
    ("TaskMarket", "CommitteeDrawn"): lambda at, f: ev.CommitteeDrawn(
        **at,
        task=f["task"],
        executor=f["executor"],
        members=tuple(f["members"]),
        accepted=f["accepted"],
        root_x=f["root_x"],
        root_y=f["root_y"],
    ),
    ("TaskMarket", "TaskAccepted"): lambda at, f: ev.TaskAccepted(**at, task=f["task"]),
    ("TaskMarket", "TaskAdmitted"): lambda at, f: ev.TaskAdmitted(
        **at, task=f["task"], evidence_root=f["evidence_root"]
    ),
    ("TaskMarket", "TaskSettled"): lambda at, f: ev.TaskSettled(
        **at, task=f["task"], evidence_root=f["evidence_root"], voters=f["voters"]
    ),
    ("TaskMarket", "TaskFailed"): lambda at, f: ev.TaskFailed(
        **at, task=f["task"], cause=f["cause"]
    ),
    ("TaskMarket", "TaskExpired"): lambda at, f: ev.TaskExpired(**at, task=f["task"]),
    ("NodeRegistry", "NodeRegistered"): lambda at, f: ev.NodeRegistered(
        **at, node=f["node"], node_id=f["id"]
    ),
    ("NodeRegistry", "ContactPublished"): lambda at, f: ev.ContactPublished(
        **at, node=f["node"], contact=f["contact"]
    ),
    ("NodeRegistry", "StatusChanged"): lambda at, f: ev.StatusChanged(
        **at, node=f["node"], status=NodeStatus(f["status"])
    ),
    ("NodeRegistry", "NodeAdmitted"): lambda at, f: ev.NodeAdmitted(
        **at, node=f["node"], maker=f["maker"]
    ),
    ("NodeRegistry", "HardwareBarred"): lambda at, f: ev.HardwareBarred(**at, holder=f["holder"]),
    ("NodeRegistry", "MakerBarred"): lambda at, f: ev.MakerBarred(**at, maker=f["maker"]),
    ("ImageRegistry", "ImageRevoked"): lambda at, f: ev.ImageRevoked(**at, image=f["image"]),
    ("ImageRegistry", "ImageLoaded"): lambda at, f: ev.ImageLoaded(
        **at, node=f["node"], image=f["image"]
    ),
}


class Decoder:
    """Decodes the logs of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        """Raises `AbiMismatch` when the deployment lacks an event that the Node lives on."""
        self._makers: dict[
            tuple[bytes, bytes], tuple[LogLayout, Callable[[Where, Fields], ev.ChainEvent]]
        ] = {}
        for (contract, name), maker in _TABLE.items():
            deployed = deployment[contract]
            layouts = [one for one in deployed.interface.logs.values() if one.name == name]
            if len(layouts) != 1:
                raise AbiMismatch(
                    f"{contract} has no event {name}", "deploy again with this version"
                )
            self._makers[deployed.address, layouts[0].topic] = layouts[0], maker

    @property
    def addresses(self) -> list[bytes]:
        """The contracts whose logs are wanted."""
        return sorted({address for address, _ in self._makers})

    @property
    def topics(self) -> list[bytes]:
        """The first topics that are wanted."""
        return sorted({topic for _, topic in self._makers})

    def decode(self, log: Mapping[str, Any]) -> ev.ChainEvent | None:
        """The event of one log in the RPC's words (hex strings); None when no role needs it.

        Raises `AbiMismatch` or `ChainUnavailable` when a wanted log does not fit its layout.
        """
        try:
            topics = [blob(topic, 32) for topic in log["topics"]]
            found = self._makers.get((blob(log["address"], 20), topics[0])) if topics else None
            if found is None:
                return None
            layout, maker = found
            where: Where = {
                "block": block_of(log),
                "log_index": quantity(log["logIndex"]),
                "tx_hash": blob(log["transactionHash"], 32),
            }
            return maker(where, layout.decode(topics, blob(log["data"])))
        except (KeyError, TypeError, ValueError) as error:
            raise AbiMismatch(
                f"a log does not fit its event ({error})", "check the deployment file"
            ) from error


def block_of(log: Mapping[str, Any]) -> BlockRef:
    """The block of a log. Its timestamp is 0 when the endpoint does not tell it."""
    stamp = log.get("blockTimestamp")
    return BlockRef(
        quantity(log["blockNumber"]),
        blob(log["blockHash"], 32),
        0 if stamp is None else quantity(stamp),
    )

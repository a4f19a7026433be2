"""What the effects work with: the adapters of this Node, chosen by the profile in ``daemon``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from agent.formats.cbor import FormatError
from agent.formats.cid import check_block
from agent.formats.outcome import LEAST_ANSWERS
from agent.formats.taskspec import TaskSpec
from nodeclient.capsules.holdings import faults
from nodeclient.capsules.keys import KeyVault
from nodeclient.capsules.policies import Policies
from nodeclient.core.case import Me
from nodeclient.core.evidence_policy import AppraisalPolicy
from nodeclient.core.incidents import Report
from nodeclient.core.types import Address
from nodeclient.duties.endorsing import Endorser
from nodeclient.duties.vouching import Voucher
from nodeclient.identity.keys import NodeKeys
from nodeclient.machine.ban import Ban
from nodeclient.machine.desk import MachineDesk
from nodeclient.p2p.client import PeerClient
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import PeerDeclined, PeerError, PeerSilent
from nodeclient.p2p.messages import BlockRequest, pack, unpack
from nodeclient.ports import BlockStore, ChainReader, ChainSender, Root
from nodeclient.store.database import Store
from nodeclient.upkeep.imageduty import ImageDuty
from nodeclient.upkeep.incidents import IncidentLog
from nodeclient.upkeep.reference import Reference

ASK_SECONDS = 20.0  # one request to a peer, from dialling to the answer's last byte
RETRY_SECONDS = 0.5  # between two rounds of asking a Committee
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Settings:
    """Choices of the operator that only effects need.

    ``appraisal`` what this deployment accepts of Machines (as a member, and for own functions).
    ``question_rate`` questions per second of each member; ``min_answers`` before DURING may end;
    ``silence_seconds`` after which an unanswered question is a finding, and a block missing;
    ``monitor_rate`` questions per second to the own Machine. ``erases``: False for a PC without an
    eraser, whose RAM nobody could prove erased.
    """

    results: str
    appraisal: AppraisalPolicy
    question_rate: float = 0.5
    min_answers: int = LEAST_ANSWERS
    silence_seconds: float = 20.0
    monitor_rate: float = 0.2
    erases: bool = True


class Note(Protocol):
    """Tells the operator. ``private`` goes into the sealed journal and not into the log."""

    def __call__(self, commitment: bytes | None, what: str, private: str = "") -> None: ...


@dataclass(frozen=True)
class Services:
    """All adapters of one Node."""

    me: Me
    settings: Settings
    root: Root
    keys: NodeKeys
    chain: ChainReader
    sender: ChainSender
    peers: PeerClient
    directory: Directory
    machine: MachineDesk
    ban: Ban
    incidents: IncidentLog
    report: Report
    store: Store
    blocks: BlockStore
    vault: KeyVault
    policies: Policies
    reference: Reference
    endorser: Endorser
    voucher: Voucher
    images: ImageDuty
    head: Callable[[], int]
    note: Note
    answer: Callable[[int, object], None]

    def note_reason(self, commitment: bytes, what: str, reason: str) -> None:
        """Note a reason "code: text"; the text may say what stands in the TaskSpec."""
        code, colon, text = reason.partition(":")
        self.note(commitment, f"{what}: {code}", colon + text)

    def faults(self, spec: TaskSpec, cids: Sequence[str]) -> tuple[str, ...]:
        """Why this Node's own Capsules cannot serve a TaskSpec; empty: they can."""
        return faults(self.root, self.vault, self.blocks, spec, cids)

    async def ask(self, peer: Address, method: str, message: object) -> bytes:
        """One request to a registered peer. Raises ``PeerError``."""
        contact = self.directory.contact(peer)
        return await self.peers.request(contact, method, pack(message), ASK_SECONDS)

    async def ask_for(
        self, peer: Address, method: str, message: object, kind: type[Answer]
    ) -> Answer:
        """One request whose answer is a message; a malformed answer counts as a refusal."""
        try:
            return unpack(kind, await self.ask(peer, method, message))
        except FormatError as error:
            raise PeerError(
                f"peer 0x{peer.hex()} answered nonsense: {error}", "ask another"
            ) from None

    async def fetch_block(self, cid: str, providers: tuple[Address, ...]) -> bytes:
        """A block from the own store or from the first provider that has it; checked, kept.

        Raises:
            PeerDeclined: all answered, and nobody has it.
            PeerSilent: nobody has it of those that answered.
        """
        if self.blocks.has(cid):
            return self.blocks.get(cid)
        kind: type[PeerError] = PeerDeclined
        for peer in providers:
            if peer == self.me.address:
                continue
            try:
                block = await self.ask(peer, "block", BlockRequest(cid))
                check_block(cid, block)
            except (PeerDeclined, FormatError):
                continue
            except PeerError:
                kind = PeerSilent
                continue
            self.blocks.put(cid, block)
            return block
        raise kind(f"no peer has block {cid[:16]}…", "wait for its owner to come back")

    async def await_block(self, cid: str, providers: tuple[Address, ...]) -> bytes:
        """A block on which a Task's end depends: a provider that restarts just now is waited for.

        Raises:
            PeerError: nobody has it, or who might was silent for ``silence_seconds``.
        """
        clock = asyncio.get_running_loop()
        end = clock.time() + self.settings.silence_seconds
        while True:
            try:
                return await self.fetch_block(cid, providers)
            except PeerSilent:
                if clock.time() > end:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

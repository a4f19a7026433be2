"""A pending node finds its way in: real contracts, real signatures, members that ask its root.

Requests between nodes go through the same bytes as over the network, without the network. The TPM
is swtpm. The Zymkey is a software key that answers in its format: only its votes are tested here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats.endorsement import Endorsement
from agent.formats.hashes import keccak256, sha256
from nodeclient.attestation.makers import load_certificates
from nodeclient.chain import admission, registration, registry
from nodeclient.chain import deployment as deployments
from nodeclient.chain.admission import AdmissionLedger
from nodeclient.chain.errors import ChainUnavailable, OrderReverted
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.reader import Reader
from nodeclient.chain.sender import Sender
from nodeclient.commands import admission as commands
from nodeclient.core.admission import (
    MAKER_ZYMBIT,
    AdmissionParameters,
    Motion,
    MotionKind,
    MotionState,
    is_signed_by,
    sign,
    vouch_digest,
)
from nodeclient.core.case import Role
from nodeclient.core.types import Address, NodeStatus, RootClass, Verdict
from nodeclient.core.zymkey import STAND_IN, ZymkeyEndorsement
from nodeclient.duties.admitting import ASKED_AT_ONCE, Admitter
from nodeclient.duties.seeking import TRIES, Seeker
from nodeclient.identity.folder import create_folder, open_folder
from nodeclient.identity.keys import NodeKeys
from nodeclient.identity.registration import prepare_registration, write_registration
from nodeclient.p2p.errors import PeerBusy, PeerError, PeerRefused
from nodeclient.p2p.messages import (
    MotionQuestion,
    RootActivation,
    RootChallenge,
    pack,
)
from nodeclient.ports import Order, Receipt
from nodeclient.roots.software import SoftwareRoot
from nodeclient.upkeep.seeking import MakerUnknown, VouchInvalid, load_vouch, maker_of
from scripts.embedded.swtpm import ServedTpm
from tests.chain.anvil_node import KEYS
from tests.chain.conftest import FAST, World
from tests.chain.people import UNIT, Person, member
from tests.roots.tpm2_kit import Tpm2Kit

pytestmark = pytest.mark.chain  # starts anvil


class CardRoot(SoftwareRoot):
    """A software key that says of itself what a Zymkey says."""

    model = f"{STAND_IN} 4i"

    @property
    def class_id(self) -> int:
        return RootClass.ZYMKEY

    def hardware_id(self) -> bytes:
        return keccak256(self.public_key())

    def endorsement(self) -> bytes:
        return ZymkeyEndorsement("0042", self.model, "1.2", self.public_key(), None, ()).encode()


@dataclass
class Town:
    """Four software nodes that are in, and whoever comes."""

    world: World
    makers: Path
    members: list[Person]
    admitters: dict[Address, Admitter]
    asked: list[tuple[str, Address]]
    decisions: dict[tuple[Address, MotionKind, bytes], Verdict] = field(default_factory=dict)

    @property
    def ledger(self) -> AdmissionLedger:
        return AdmissionLedger(self.world.rpc, self.world.deployment)

    @property
    def reader(self) -> Reader:
        return Reader(self.world.rpc, self.world.deployment)

    def admitter(self, person: Any, simulated: bool = True, makers: Path | None = None) -> Admitter:
        """A node's part in admissions, reachable for the others."""
        made = Admitter(
            me=person.address,
            chain_id=self.world.deployment.chain_id,
            account=lambda: person.keys.account,
            root=person.root,
            chain=self.reader,
            ledger=self.ledger,
            ask=self.ask_as(person.address),
            makers=makers or self.makers,
            accept_simulated=simulated,
            decide=lambda motion: self.decisions.get((person.address, motion.kind, motion.subject)),
        )
        self.admitters[person.address] = made
        return made

    def ask_as(self, sender: Address) -> Callable[[Address, str, object], Any]:
        """One request, through its bytes, as the inbox serves it."""

        async def ask(peer: Address, method: str, message: object) -> bytes:
            self.asked.append((method, peer))
            there, body = self.admitters[peer], pack(message)
            try:
                return await there.methods()[method](sender, body)
            except PeerError:
                raise
            except Exception as error:  # as the inbox turns it into a refusal
                raise PeerRefused(str(error), "ask another") from error

        return ask

    def seeker(
        self, person: Any, maker: bytes, vouched: admission.Signature | None = None
    ) -> Seeker:
        """A node on its way in."""
        vouch = admission.NO_VOUCH if vouched is None else (2**40, vouched)
        return Seeker(
            self.admitter(person),
            root=person.root,
            chain=self.reader,
            sender=person.sender,
            ask=self.ask_as(person.address),
            maker=lambda: maker,
            vouch=lambda: vouch,
            poll_seconds=0.01,
        )

    async def newcomer(self, root: Any, folder: Path) -> Any:
        """A node with a hardware root, registered and PENDING."""
        keys = NodeKeys.generate(root)
        self.world.node.rpc("anvil_setBalance", "0x" + keys.address.hex(), hex(100 * UNIT))
        journal = SqliteJournal(":memory:")
        sender = Sender(self.world.rpc, self.world.deployment, journal, keys.account, FAST)
        person = Person(root, keys, sender)
        folder.mkdir(parents=True)  # noqa: ASYNC240
        path = write_registration(
            folder,
            prepare_registration(
                root,
                keys,
                chain_id=self.world.deployment.chain_id,
                registry=self.world.deployment["NodeRegistry"].address,
                endpoint="127.0.0.1:7000",
            ),
        )
        order = registry.register("register", registration.load(path), UNIT, join=True)
        await sender.execute(order)
        return person

    async def bar(self, person: Person) -> None:
        """As if a committee had: its round would take the test a while."""
        record = await self.reader.node(person.address)
        assert record is not None
        self._as_ledger("bar", record.hardware_id)
        assert await self.ledger.is_barred(person.address)

    async def bar_maker(self, maker: bytes) -> None:
        """The same for all of a maker."""
        self._as_ledger("bar_maker", maker)
        assert await self.ledger.is_maker_barred(maker)

    def _as_ledger(self, function: str, argument: bytes) -> None:
        node, ledger = self.world.node, "0x" + self.ledger.address.hex()
        deployed = self.world.deployment["NodeRegistry"]
        data = deployed.interface.function(function, 1).encode([argument])
        node.rpc("anvil_setBalance", ledger, hex(UNIT))
        node.rpc("anvil_impersonateAccount", ledger)
        call = {"from": ledger, "to": "0x" + deployed.address.hex(), "data": "0x" + data.hex()}
        node.rpc("eth_sendTransaction", call | {"gas": hex(10**6)})

    async def status(self, person: Any) -> NodeStatus:
        """As the registry has it."""
        record = await self.reader.node(person.address)
        assert record is not None
        return record.status

    async def vouched(self, person: Any, maker: bytes) -> admission.Signature:
        """The signature of the bootstrap admitter."""
        record = await self.reader.node(person.address)
        assert record is not None
        digest = vouch_digest(
            self.world.deployment.chain_id,
            self.ledger.address,
            person.address,
            record.id,
            record.hardware_id,
            maker,
            keccak256(person.root.endorsement()),
            2**40,
        )
        return sign(digest, KEYS[0])

    async def seek(self, seeker: Seeker, steps: int = 8) -> bool:
        """Let time pass until the node is in, or gives up; the last answer of `step`."""
        going = True
        for _ in range(steps):
            going = await seeker.step()
            self.world.node.mine(3)
            if not going:
                break
        return going


@pytest_asyncio.fixture
async def town(world: World, tmp_path: Path) -> AsyncIterator[Town]:
    makers = tmp_path / "makers"
    makers.mkdir()
    people = [await member(world, tmp_path / f"member {i}") for i in range(4)]
    made = Town(world, makers, people, {}, [])
    for person in people:
        made.admitter(person)
    yield made


def card() -> CardRoot:
    return CardRoot(ec.generate_private_key(ec.SECP256R1()))


# --- a Zymkey -----------------------------------------------------------------------------------


async def test_zymkey__vouched__admitted_by_votes(town: Town, tmp_path: Path) -> None:
    person = await town.newcomer(card(), tmp_path / "card")
    assert await town.status(person) is NodeStatus.PENDING
    vouch = await town.vouched(person, MAKER_ZYMBIT)
    seeker = town.seeker(person, MAKER_ZYMBIT, vouch)
    assert await town.seek(seeker)
    await seeker.run()  # ends: it is in
    assert await town.status(person) is NodeStatus.ACTIVE
    assert await town.ledger.state(1) is MotionState.CARRIED
    asked = {method for method, _ in town.asked}
    assert asked == {"motion_vote", "root_endorsement", "root_challenge"}


async def test_zymkey__stand_in_where_members_refuse_it__no_votes(
    town: Town, tmp_path: Path
) -> None:
    for person in town.members[:2]:
        town.admitter(person, simulated=False)
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    await town.seek(seeker)
    assert await town.status(candidate) is NodeStatus.PENDING


async def test_zymkey__another_root_answers__no_votes(town: Town, tmp_path: Path) -> None:
    """The documents are public: whoever copied them cannot sign the members' numbers."""
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    impostor = card()

    class Copy(CardRoot):
        def sign(self, digest: bytes) -> bytes:
            return impostor.sign(digest)

    candidate.root.__class__ = Copy
    await town.seek(seeker)
    assert await town.status(candidate) is NodeStatus.PENDING
    question = MotionQuestion(1)
    first = (await town.ledger.members((await town.ledger.round() or (0,))[0]) or ())[0]
    with pytest.raises(PeerRefused, match="does not answer"):
        await town.ask_as(candidate.address)(first, "motion_vote", question)


async def test_seeker__nobody_decides__stops_after_three_fees(town: Town, tmp_path: Path) -> None:
    candidate = await town.newcomer(card(), tmp_path / "card")
    for person in town.members:
        town.admitter(person, simulated=False)
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    terms = await town.ledger.parameters()
    for _ in range(3):
        assert await seeker.step()  # a request
        town.world.node.mine(terms.draw_window + 10)
    assert not await seeker.step()
    assert await town.ledger.state(3) is MotionState.OPEN
    assert await town.ledger.state(4) is None


async def test_seeker__member_barred_after_the_draw__its_vote_does_not_void_the_others(
    town: Town, tmp_path: Path
) -> None:
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    await town.seek(seeker, 1)
    town.world.node.mine(8)
    await seeker.step()  # draws: all four
    await town.bar(town.members[0])  # its daemon goes on, and would sign
    await seeker.step()
    assert await town.status(candidate) is NodeStatus.ACTIVE
    assert await town.ledger.state(1) is MotionState.CARRIED


async def test_seeker__mined_and_refused__is_tried_under_another_key(
    town: Town, tmp_path: Path
) -> None:
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    refused = OrderReverted("AdmissionLedger.request", "draw the round first", bytes(32))
    sender, keys = candidate.sender, []

    class Unlucky:
        async def execute(self, order: Order) -> Receipt:
            keys.append(order.key)
            if len(keys) == 1:
                raise refused
            return await sender.execute(order)

    seeker._motions._sender = Unlucky()  # type: ignore[assignment]
    with pytest.raises(OrderReverted):
        await seeker.step()
    assert await seeker.step()
    assert len(set(keys)) == 2
    assert await town.ledger.state(1) is MotionState.OPEN


async def test_seeker__motions_of_long_ago__asks_again(town: Town, tmp_path: Path) -> None:
    """The journal keeps every order for good: a key of then would open no motion now."""
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    terms = await town.ledger.parameters()
    assert await seeker.step()
    town.world.node.mine(TRIES * terms.longest + 1)
    assert await seeker.step()
    assert await town.ledger.state(2) is MotionState.OPEN


async def test_seeker__endpoint_is_away_for_a_while__goes_on(town: Town, tmp_path: Path) -> None:
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT)
    asked: list[Address] = []

    class Away(Reader):
        async def node(self, address: Address) -> Any:
            asked.append(address)
            if len(asked) == 1:
                raise ChainUnavailable("no answer", "wait")
            return replace(await super().node(address), status=NodeStatus.ACTIVE)

    seeker._chain = Away(town.world.rpc, town.world.deployment)
    await asyncio.wait_for(seeker.run(), 60)
    assert len(asked) == 2


async def test_vote__candidate_that_keeps_quiet__holds_up_no_other(
    town: Town, tmp_path: Path
) -> None:
    slow, quick = [await town.newcomer(card(), tmp_path / name) for name in ("slow", "quick")]
    seekers = [
        town.seeker(each, MAKER_ZYMBIT, await town.vouched(each, MAKER_ZYMBIT))
        for each in (slow, quick)
    ]
    for seeker in seekers:
        await seeker.step()
    town.world.node.mine(12)
    await seekers[0].step()  # draws for both
    round = await town.ledger.round()
    assert round is not None
    for number, each in enumerate((slow, quick), 1):
        members = await town.ledger.members(round[0])
        town.admitters[each.address].answer_to(number, frozenset(members or ()))
    silent, reached = asyncio.Event(), asyncio.Event()
    judge = town.admitters[town.members[0].address]
    ask = judge._ask

    async def asks(peer: Address, method: str, message: object) -> bytes:
        if peer == slow.address:
            reached.set()
            await silent.wait()
        return await ask(peer, method, message)

    judge._ask = asks
    waiting = asyncio.create_task(judge.vote(slow.address, 1))
    await asyncio.wait_for(reached.wait(), 60)
    with pytest.raises(PeerBusy):
        await asyncio.wait_for(judge.vote(slow.address, 1), 60)
    assert await asyncio.wait_for(judge.vote(quick.address, 2), 60)
    silent.set()
    assert await waiting


async def test_vote__questions_about_nothing__cost_the_chain_no_more_than_so_many_at_once(
    town: Town,
) -> None:
    judge, looked, answer = town.admitters[town.members[0].address], 0, asyncio.Event()

    class Slow(AdmissionLedger):
        async def parameters(self) -> AdmissionParameters:
            nonlocal looked
            looked += 1
            await answer.wait()
            return await super().parameters()

    judge.ledger = Slow(town.world.rpc, town.world.deployment)
    strangers = [Address(bytes([number]) * 20) for number in range(1, ASKED_AT_ONCE + 2)]
    asked = [asyncio.create_task(judge.vote(each, 1)) for each in strangers[:-1]]
    await asyncio.sleep(0)  # each runs up to its first look
    assert looked == ASKED_AT_ONCE
    for again in (strangers[0], strangers[-1]):
        with pytest.raises(PeerBusy):
            await asyncio.wait_for(judge.vote(again, 1), 60)
    assert looked == ASKED_AT_ONCE
    answer.set()
    for each in asked:
        with pytest.raises(PeerRefused, match="no open motion"):
            await each
    with pytest.raises(PeerRefused, match="no open motion"):  # the slots are free again
        await judge.vote(strangers[-1], 1)


# --- who may ask what ---------------------------------------------------------------------------


async def test_vote__motion_of_another_no_seat_or_none__refused(town: Town, tmp_path: Path) -> None:
    candidate = await town.newcomer(card(), tmp_path / "card")
    seeker = town.seeker(candidate, MAKER_ZYMBIT, await town.vouched(candidate, MAKER_ZYMBIT))
    await seeker.step()
    first = town.members[0].address
    judge = town.admitters[first]
    with pytest.raises(PeerError, match="not drawn"):
        await judge.vote(candidate.address, 1)
    with pytest.raises(PeerRefused, match="no open motion"):
        await judge.vote(town.members[1].address, 1)
    with pytest.raises(PeerRefused, match="no open motion"):
        await judge.vote(candidate.address, 2)
    town.world.node.mine(8)
    await seeker.step()  # draws
    own = town.admitters[candidate.address]
    with pytest.raises(PeerRefused, match="no seat"):
        await own.vote(candidate.address, 1)
    # members are answered once the candidate has asked them, others never
    with pytest.raises(PeerRefused, match="not a member"):
        await own.endorsement(first, 1)
    own.answer_to(1, frozenset({first}))
    assert await own.endorsement(first, 1)
    for call in (
        own.endorsement(town.members[1].address, 1),
        own.endorsement(first, 2),
        own.challenge(town.members[1].address, RootChallenge(1, bytes(32))),
        own.activate(town.members[1].address, RootActivation(1, b"123", b"123")),
    ):
        with pytest.raises(PeerRefused, match="not a member"):
            await call
    with pytest.raises(PeerRefused, match="no TPM"):
        await own.activate(first, RootActivation(1, b"123", b"123"))


async def test_motions__read_from_the_chain__as_they_were_opened(
    town: Town, tmp_path: Path
) -> None:
    mover = town.members[0]
    terms = await town.ledger.parameters()
    assert terms == AdmissionParameters(2, 1, 400, 600, 7, 10**13)
    assert await town.ledger.round() is None
    order = admission.propose("bar", terms.fee, MotionKind.BAR, b"\x05" * 32, b"\x06" * 32)
    await mover.sender.execute(order)
    (found,) = await town.ledger.motions_of(mover.address, 0)
    round = await town.ledger.round()
    assert round is not None
    expected = Motion(
        1, MotionKind.BAR, mover.address, 0, b"\x05" * 32, bytes(32), b"\x06" * 32, round[0]
    )
    assert found == expected == await town.ledger.motion(1, 0)
    assert await town.ledger.motions_of(town.members[1].address, 0) == []
    assert await town.ledger.motion(2, 0) is None
    assert await town.ledger.members(round[0]) is None
    assert await town.ledger.committee(round[0]) is None
    assert terms.seats(found, (mover.address,) * 11) == (mover.address,) * 11
    admit = replace(found, kind=MotionKind.ADMIT)
    assert len(terms.seats(admit, (mover.address,) * 11)) == 7


async def test_bootstrap__admits_and_renounces(town: Town, tmp_path: Path) -> None:
    person = await town.newcomer(card(), tmp_path / "card")
    deployer = town.world.sender(SqliteJournal(":memory:"), 0)
    boot = await town.ledger.bootstrap()
    assert boot is not None
    assert await town.ledger.is_admitter(boot)
    await deployer.execute(admission.admit_bootstrap("in", person.address, MAKER_ZYMBIT))
    assert await town.status(person) is NodeStatus.ACTIVE
    await deployer.execute(admission.renounce("done"))
    assert await town.ledger.bootstrap() is None
    assert not await town.ledger.is_admitter(boot)


# --- commands -----------------------------------------------------------------------------------


async def test_commands__candidate_and_admitter__what_they_print_fits(
    town: Town, tmp_path: Path
) -> None:
    file = tmp_path / "deployment.json"
    deployments.save(town.world.deployment, file)
    create_folder(
        tmp_path / "node",
        rpc=town.world.rpc.url,
        deployment_file=file,
        endpoint="127.0.0.1:7001",
        roles=frozenset(Role),
    )
    opened = open_folder(tmp_path / "node")
    said = await commands.with_chain(opened, lambda chain: commands._state(opened, chain))
    assert (said["status"], said["root"], "motion" in said) == ("UNREGISTERED", "SOFTWARE", False)

    candidate = await town.newcomer(card(), tmp_path / "card")
    evidence = keccak256(candidate.root.endorsement())
    given = await commands.with_chain(
        opened, lambda chain: commands._vouch(opened, chain, candidate.address, evidence)
    )
    record = await town.reader.node(candidate.address)
    assert record is not None
    digest = vouch_digest(
        town.world.deployment.chain_id,
        town.ledger.address,
        candidate.address,
        record.id,
        record.hardware_id,
        MAKER_ZYMBIT,
        evidence,
        given["valid_until"],
    )
    admitter = Address(opened.load_keys().address)
    assert is_signed_by(admitter, digest, (given["r"], given["vs"]))
    assert not is_signed_by(candidate.address, digest, (given["r"], given["vs"]))
    assert not is_signed_by(admitter, digest, (given["r"], given["vs"] | (1 << 255) - 1))
    (tmp_path / "vouch.json").write_text(json.dumps(given))
    assert load_vouch(tmp_path / "vouch.json")[0] == given["valid_until"]
    with pytest.raises(commands.NotACandidate):
        await commands.with_chain(
            opened,
            lambda chain: commands._vouch(opened, chain, town.members[0].address, evidence),
        )
    deployer = town.world.sender(SqliteJournal(":memory:"), 0)
    await deployer.execute(admission.admit_bootstrap("in", candidate.address, MAKER_ZYMBIT))
    with pytest.raises(commands.NotACandidate, match="is ACTIVE, not PENDING"):
        await commands.with_chain(
            opened, lambda chain: commands._vouch(opened, chain, candidate.address, evidence)
        )


# --- files --------------------------------------------------------------------------------------


def test_vouch__file__read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "vouch.json"
    assert load_vouch(path) == admission.NO_VOUCH
    path.write_text('{"valid_until": 5, "r": 6, "vs": 7}')
    assert load_vouch(path) == (5, (6, 7))
    for text in ("", "[]", "{}", '{"valid_until": true, "r": 6, "vs": 7}',
                 '{"valid_until": 5, "r": -6, "vs": 7}',
                 '{"valid_until": 18446744073709551616, "r": 6, "vs": 7}', "[" * 5000):  # fmt: skip
        path.write_text(text)
        with pytest.raises(VouchInvalid):
            load_vouch(path)


def test_maker__of_a_zymkey__is_zymbit(tmp_path: Path) -> None:
    assert maker_of(card(), tmp_path) == MAKER_ZYMBIT


# --- a TPM --------------------------------------------------------------------------------------


def issuer_of(chip: Any) -> bytes:
    """The certificate over the chip's EK: a TPM keeps none above its own."""
    return bytes(chip.certificates[1].read_bytes())


async def test_tpm__maker_believed__admitted_by_votes(town: Town, tmp_path: Path) -> None:
    with Tpm2Kit().bench(tmp_path / "tpm") as bench:
        bench.files.mkdir(parents=True)
        root = bench.create()
        candidate = await town.newcomer(root, tmp_path / "tpm node")
        with pytest.raises(MakerUnknown):
            maker_of(root, town.makers)
        root_certificate = issuer_of(bench.chip)
        (town.makers / "swtpm.pem").write_bytes(root_certificate)
        maker = maker_of(root, town.makers)
        seeker = town.seeker(candidate, maker)
        assert await town.seek(seeker)
        assert await town.status(candidate) is NodeStatus.ACTIVE
        assert "root_activate" in {method for method, _ in town.asked}
        root.close()


async def test_tpm__issuer_and_root_believed__a_bar_of_either_holds(
    town: Town, tmp_path: Path
) -> None:
    """Else who names the one evades the bar of the other."""
    with Tpm2Kit().bench(tmp_path / "tpm") as bench:
        bench.files.mkdir(parents=True)
        root = bench.create()
        for number, path in enumerate(bench.chip.certificates):
            (town.makers / f"{number}.pem").write_bytes(path.read_bytes())
        over = [sha256(der) for path in bench.chip.certificates for der in load_certificates(path)]
        top = maker_of(root, town.makers)
        assert top == over[0]  # swtpm's root, then its issuer
        candidate = await town.newcomer(root, tmp_path / "tpm node")
        lower = town.seeker(candidate, over[1])
        await town.seek(lower)
        first = (await town.ledger.members((await town.ledger.round() or (0,))[0]) or ())[0]
        with pytest.raises(PeerRefused, match="another maker than the topmost"):
            await town.ask_as(candidate.address)(first, "motion_vote", MotionQuestion(1))
        assert await town.status(candidate) is NodeStatus.PENDING

        await town.bar_maker(over[1])
        town.world.node.mine((await town.ledger.parameters()).longest)
        seeker = town.seeker(candidate, top)
        await town.seek(seeker)
        assert await town.ledger.state(2) is MotionState.OPEN  # the contract knows of no issuers
        with pytest.raises(PeerRefused, match=f"maker 0x{over[1].hex()} is barred"):
            await town.ask_as(candidate.address)(first, "motion_vote", MotionQuestion(2))
        assert await town.status(candidate) is NodeStatus.PENDING
        root.close()


async def test_tpm__key_of_another_chip__no_votes(town: Town, tmp_path: Path) -> None:
    """The signature is valid, the certificate genuine; only they do not belong together."""

    with Tpm2Kit().bench(tmp_path / "tpm") as bench:
        bench.files.mkdir(parents=True)
        root, other = bench.create(), bench.stranger()
        elsewhere = ServedTpm(tmp_path / "tpm" / "stranger-1")
        (town.makers / "swtpm.pem").write_bytes(issuer_of(elsewhere))
        genuine = Endorsement.decode(other.endorsement())
        own = Endorsement.decode(root.endorsement())
        mixed = Endorsement(genuine.certificates, genuine.ek, own.ak)
        root._endorsement = mixed  # type: ignore[attr-defined]
        candidate = await town.newcomer(root, tmp_path / "tpm node")
        seeker = town.seeker(candidate, maker_of(root, town.makers))
        await town.seek(seeker)
        assert await town.status(candidate) is NodeStatus.PENDING
        assert "root_activate" in {method for method, _ in town.asked}
        for each in (root, other):
            each.close()

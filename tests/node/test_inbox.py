"""What peers may ask of the machine's TPM, and who; and of what the node runs, how often."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.endorsement import MAX_BLOB, MAX_SECRET
from nodeclient.core.case import Case
from nodeclient.core.roles.executor import Executor, State
from nodeclient.core.types import Address, Commitment, TaskState
from nodeclient.errors import MachineError
from nodeclient.inbox import ACTIVATIONS, SIGNING_ASKERS, SIGNINGS, Inbox
from nodeclient.p2p.errors import PeerBusy, PeerRefused
from nodeclient.p2p.messages import (
    ActivationRequest,
    EndorsementRequest,
    MotionQuestion,
    Question,
    RunningAnswer,
    RunningRequest,
    pack,
    unpack,
)
from tests.core.evidence_kit import MEMBER, OTHER, OWNER, SPEC
from tests.core.test_reorganisation import LIFE
from tests.core.test_roles import owner, walk

STRANGER = Address(b"\x77" * 20)
WAITING = Address(b"\x78" * 20)  # PENDING
COMMITMENT = Commitment(b"\x0c" * 32)
RESUME = b"sealed record of a boot"


def running() -> Case:
    """A task that this node executes, its machine on."""
    task = walk(owner(), *LIFE)[0].task
    role = Executor(spec=SPEC.encode(), resume=RESUME)
    return Case(COMMITMENT, task, TaskState.ACCEPTED, (MEMBER, OTHER), executor=role)


@dataclass
class Told:
    """A Voucher that remembers what it was asked."""

    asked: list[object] = field(default_factory=list)
    fails: bool = False

    async def endorsement(self) -> bytes:
        self.asked.append("endorsement")
        return b"whose TPM it is"

    async def activate(self, resume: bytes, request: ActivationRequest) -> bytes:
        self.asked.append((resume, request))
        if self.fails:
            raise MachineError("went off: /secret/path", "boot it")
        return b"\x05" * 32


def inbox(case: Case, voucher: Told) -> Inbox:
    cases = {COMMITMENT: case}
    services: Any = SimpleNamespace(
        store=SimpleNamespace(case=cases.get),
        voucher=voucher,
        note=lambda *_: None,
        directory=SimpleNamespace(is_pending=lambda who: who == WAITING),
    )
    return Inbox(services, SimpleNamespace())  # type: ignore[arg-type]


async def test_handle__sender_not_admitted__may_ask_for_votes_alone() -> None:
    """To register as PENDING costs no check: it must open no door to tasks or to the Machine."""
    told = Told()
    box = inbox(running(), told)
    for method in sorted(set(box._methods) - {"alive"}):
        with pytest.raises(PeerRefused, match="not admitted yet"):
            await box.handle(WAITING, method, b"")
    with pytest.raises(PeerRefused, match="no method"):  # this node judges nobody
        await box.handle(WAITING, "motion_vote", pack(MotionQuestion(1)))
    assert told.asked == []


def question(blob: bytes = b"\x01" * 70, secret: bytes = b"\x02" * 258) -> bytes:
    return pack(ActivationRequest(COMMITMENT, blob, secret))


@pytest.mark.parametrize("asker", [MEMBER, OTHER, OWNER])
async def test_tpm__asked_by_member_or_owner__is_answered(asker: Address) -> None:
    voucher = Told()
    asked = inbox(running(), voucher)
    told = await asked.handle(asker, "endorsement", pack(EndorsementRequest(COMMITMENT)))
    assert told == b"whose TPM it is"
    assert await asked.handle(asker, "activate", question()) == b"\x05" * 32
    request = ActivationRequest(COMMITMENT, b"\x01" * 70, b"\x02" * 258)
    assert voucher.asked == ["endorsement", (RESUME, request)]


@pytest.mark.parametrize("method", ["endorsement", "activate"])
async def test_tpm__asked_by_somebody_without_a_part__is_refused(method: str) -> None:
    voucher = Told()
    body = question() if method == "activate" else pack(EndorsementRequest(COMMITMENT))
    with pytest.raises(PeerRefused, match="no part in this task"):
        await inbox(running(), voucher).handle(STRANGER, method, body)
    assert voucher.asked == []


@pytest.mark.parametrize(
    "state", [TaskState.SETTLED, TaskState.FAILED, TaskState.EXPIRED, "no machine"]
)
async def test_activate__no_machine_runs_the_task__is_refused(state: TaskState | str) -> None:
    case, voucher = running(), Told()
    if isinstance(state, TaskState):
        case = replace(case, state=state)
    else:
        case = replace(case, executor=Executor(spec=SPEC.encode()))
    with pytest.raises(PeerRefused, match="no machine runs"):
        await inbox(case, voucher).handle(MEMBER, "activate", question())
    assert voucher.asked == []


async def test_activate__more_often_than_an_asker_may__is_refused_and_others_go_on() -> None:
    voucher = Told()
    asked = inbox(running(), voucher)
    for _ in range(ACTIVATIONS):
        await asked.handle(MEMBER, "activate", question())
    with pytest.raises(PeerRefused, match="that is all"):
        await asked.handle(MEMBER, "activate", question())
    await asked.handle(OTHER, "activate", question())
    assert len(voucher.asked) == ACTIVATIONS + 1


@pytest.mark.parametrize(
    ("blob", "secret"),
    [(b"\x01" * (MAX_BLOB + 1), b""), (b"", b"\x02" * (MAX_SECRET + 1))],
)
async def test_activate__longer_than_any_tpm_takes__is_refused_unread(
    blob: bytes, secret: bytes
) -> None:
    voucher = Told()
    with pytest.raises(PeerRefused, match="malformed"):
        await inbox(running(), voucher).handle(MEMBER, "activate", question(blob, secret))
    assert voucher.asked == []


async def test_activate__machine_went_off__tells_nothing_of_this_node() -> None:
    with pytest.raises(PeerRefused) as refused:
        await inbox(running(), Told(fails=True)).handle(MEMBER, "activate", question())
    assert "no machine runs" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("state", [each for each in State if each is not State.RUNNING])
async def test_question__run_is_over_or_has_not_begun__is_declined_at_once(state: State) -> None:
    """The machine is not even asked: one that is being erased does not answer for a minute."""
    case = running()
    role = Executor(spec=SPEC.encode(), resume=RESUME, state=state)
    case = replace(case, state=TaskState.ADMITTED, executor=role)
    with pytest.raises(PeerRefused, match="no machine runs"):
        await inbox(case, Told()).handle(
            MEMBER, "question", pack(Question(COMMITMENT, b"\x01" * 32, during=True))
        )


async def test_running__few_peers_that_ask_all_the_time__another_waits_for_one_and_is_next() -> (
    None
):
    begun: asyncio.Queue[bytes] = asyncio.Queue()
    ends: dict[bytes, asyncio.Event] = {}

    async def signed(nonce: bytes) -> RunningAnswer:
        ends[nonce] = asyncio.Event()
        begun.put_nowait(nonce)
        await ends[nonce].wait()
        return RunningAnswer(nonce, bytes(64))

    services: Any = SimpleNamespace(
        images=SimpleNamespace(own=SimpleNamespace(signed=signed)),
        directory=SimpleNamespace(is_pending=lambda _: False),
        note=lambda *_: None,
    )
    box = Inbox(services, SimpleNamespace())  # type: ignore[arg-type]

    def ask(who: int, times: int = 1) -> asyncio.Task[bytes]:
        body = pack(RunningRequest(bytes([who, times]) * 16))
        return asyncio.create_task(box.handle(bytes([who]) * 20, "running", body))

    async with asyncio.timeout(60):
        busy = [ask(who) for who in range(1, SIGNINGS + 1)]
        first = [await begun.get() for _ in busy]
        honest = ask(99)
        await asyncio.sleep(0)
        assert begun.empty()  # the root does only so many at once
        ends[first[0]].set()
        await busy[0]
        busy[0] = ask(1, 2)  # at once again, and behind
        assert await begun.get() == bytes([99, 1]) * 16
        rest = [ask(who) for who in range(100, 100 + SIGNING_ASKERS - SIGNINGS - 1)]
        await asyncio.sleep(0)
        with pytest.raises(PeerBusy):  # every place is taken
            await ask(200)
        while not all(each.done() for each in (*busy, honest, *rest)):
            for each in ends.values():
                each.set()
            await asyncio.sleep(0)
        assert unpack(RunningAnswer, await honest).statement == bytes([99, 1]) * 16
        again = ask(200)  # and is free again
        ends[await begun_by(begun, 200)].set()
        assert await again


async def begun_by(begun: asyncio.Queue[bytes], who: int) -> bytes:
    """The nonce of somebody's question, once its turn has come."""
    while (nonce := await begun.get())[0] != who:
        pass
    return nonce

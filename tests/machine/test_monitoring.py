"""A Node watches its own Machine: a real Agent, honest, changed, frozen, or gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.formats.hashes import sha256
from agent.formats.messages import DURING, MONITOR
from agent.formats.taskspec import commitment_of
from nodeclient.core import actions as do
from nodeclient.core.case import Case, Me
from nodeclient.core.evidence_policy import AppraisalPolicy
from nodeclient.core.images import ImageKind
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.roles.execution import Executor, State
from nodeclient.core.types import Address, Commitment, Task, TaskId, TaskState
from nodeclient.duties import monitoring
from nodeclient.duties.endorsing import Endorser
from nodeclient.duties.machine import evidence_key
from nodeclient.duties.services import Services, Settings
from nodeclient.errors import MachineRefused
from nodeclient.identity.registration import NO_MACHINE_KEY
from nodeclient.machine.ban import Ban
from nodeclient.machine.desk import MachineDesk
from nodeclient.machine.measure import measure_agent
from nodeclient.machine.resume import ResumeRecord
from nodeclient.ports import Session
from nodeclient.store.database import Store
from nodeclient.upkeep.bootimages import BootImages
from nodeclient.upkeep.incidents import IncidentLog
from nodeclient.upkeep.reference import Reference
from tests.attestation.test_endorsing import registered
from tests.core.test_roles import PARAMETERS
from tests.machine.support import MARKET, NODE, TASK, Job, Pi, some_root
from tests.node.test_bootimages import Approvals

SLEEP = "import time; time.sleep(600)"
ME = Me(Address(NODE), frozenset(), replace(PARAMETERS, market=Address(MARKET)))


@dataclass
class Watched:
    """One Task on a real Machine, and the duty that watches it."""

    pi: Pi
    folder: Path
    job: Job
    session: Session
    rate: float = 20.0
    silence: float = 30.0
    approved: bool = True
    incidents: list[Incident] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "node.db", bytes(32))
        self.desk = MachineDesk(self.pi.machine, some_root())
        self.resume = some_root().seal(self.session.resume, "machine-session")
        self.commitment = Commitment(commitment_of(self.job.spec.encode()))
        self.task = Task(
            *(TaskId(TASK), self.commitment, Address(b"\x44" * 20), 1, 1, 1, 3, 0),
            executor=Address(NODE),
        )
        self.set(State.GATHERING)

    def set(self, state: State, before_root: bytes = b"") -> None:
        role = Executor(state=state, resume=self.resume, spec=self.job.spec.encode())
        case = Case(self.commitment, self.task, TaskState.ACCEPTED, before_root=before_root)
        self.store.apply(replace(case, executor=role), ())

    def services(self) -> Services:
        async def node(_address: bytes) -> object:
            return registered(NO_MACHINE_KEY)

        async def nobody(*_: object) -> bytes:
            raise AssertionError("a machine of one's own is asked without a network")

        kinds = {measure_agent(): ImageKind.BOOT, self.pi.image_id: ImageKind.RUNTIME}
        approvals = Approvals(kinds if self.approved else {})
        approvals.node = node  # type: ignore[attr-defined]
        return Services(
            me=ME,
            settings=Settings(
                "results",
                AppraisalPolicy(),
                silence_seconds=self.silence,
                monitor_rate=self.rate,
            ),
            chain=cast(Any, approvals),
            machine=self.desk,
            ban=Ban(self.folder),
            incidents=IncidentLog(self.folder),
            report=self.incidents.append,
            store=self.store,
            reference=Reference(
                cast(Any, approvals),
                self.folder,
                BootImages(self.folder, cast(Any, None), cast(Any, None)),
            ),
            endorser=Endorser(nobody, self.store, self.folder),
            voucher=cast(Any, SimpleNamespace()),
            note=lambda _c, what, private="": self.notes.append(what + private),
            **dict.fromkeys(
                (
                    *("root", "keys", "sender", "peers", "directory", "blocks", "vault"),
                    *("policies", "images", "head", "answer"),
                ),
                cast(Any, None),
            ),
        )

    def watch(self) -> asyncio.Task[Any]:
        action = do.MonitorMachine(
            commitment=self.commitment,
            task=self.task,
            spec=self.job.spec.encode(),
            resume=self.resume,
            session_hash=sha256(self.session.hpke + self.session.signing),
            attempt=0,
        )
        effect = monitoring.effects(self.services())[do.MonitorMachine]
        return asyncio.create_task(cast(Any, effect(action, lambda _event: None)))

    @property
    def pid(self) -> int:
        process = ResumeRecord.decode(self.session.resume).process
        assert process is not None
        return process[0]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(180):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.fixture
async def watched(
    pi: Pi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watched]:
    monkeypatch.setattr(monitoring, "PULSE_SECONDS", 0.1)
    session, job = await pi.machine.boot(1), pi.job(SLEEP)
    await pi.prepare(job)
    watched = Watched(pi, tmp_path, job, session)
    yield watched
    watched.store.close()


async def test_honest__before_and_during__affirmed_and_no_incident(watched: Watched) -> None:
    """And its questions neither count as answers, nor can a key be sealed under them."""
    watching = watched.watch()
    await until(lambda: "own appraisal: BEFORE affirmed" in watched.notes)
    recorded = await watched.pi.ask(watched.job)
    watched.store.put_blob(evidence_key(recorded.root), recorded.encode())
    await watched.pi.release_all(watched.job, watched.session, recorded.root)
    watched.set(State.RUNNING, recorded.root)
    await until(lambda: "own appraisal: DURING affirmed" in watched.notes)
    assert (await watched.pi.status()).answers == 0
    await watched.pi.ask(watched.job, DURING)
    assert (await watched.pi.status()).answers == 1
    watched.set(State.CLEANING)
    await asyncio.wait_for(watching, 60)
    assert watched.incidents == []


async def test_image_revoked_meanwhile__own_appraisal_finds_it(watched: Watched) -> None:
    watched.approved = False
    watching = watched.watch()
    await until(lambda: bool(watched.incidents))
    watched.set(State.GAVE_UP)
    await asyncio.wait_for(watching, 60)
    assert {each.kind for each in watched.incidents} == {Kind.APPRAISAL}
    assert {each.text for each in watched.incidents} >= {"boot-image", "runtime-image"}
    assert all(SLEEP not in each.text for each in watched.incidents)


async def test_agent_frozen__silence_within_the_bound(watched: Watched) -> None:
    watched.silence, watched.rate = 1.0, 0.001
    watching = watched.watch()
    await asyncio.sleep(0.5)
    assert watched.incidents == []
    os.kill(watched.pid, signal.SIGSTOP)
    await until(lambda: bool(watched.incidents))
    watched.set(State.GAVE_UP)
    await asyncio.wait_for(watching, 60)
    assert watched.incidents[0] == Incident(Kind.SILENCE, "no answer in 1 s")


async def test_agent_killed__silence(watched: Watched) -> None:
    watched.rate = 0.001
    watching = watched.watch()
    os.kill(watched.pid, signal.SIGKILL)
    await until(lambda: bool(watched.incidents))
    watched.set(State.GAVE_UP)
    await asyncio.wait_for(watching, 60)
    assert watched.incidents[0].kind is Kind.SILENCE
    assert watched.incidents[0].text.startswith("the machine is gone")


async def test_agent_refuses_every_question__silence_although_it_has_a_pulse(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.silence = 1.0
    called = watched.desk.call

    async def call(resume: bytes, method: str, body: object) -> object:
        if method == MONITOR:
            raise MachineRefused("internal", "monitor failed; see the log of that side")
        return await called(resume, method, body)

    monkeypatch.setattr(watched.desk, "call", call)
    watching = watched.watch()
    await until(lambda: bool(watched.incidents))
    watched.set(State.GAVE_UP)
    await asyncio.wait_for(watching, 60)
    text = "no evidence in 1 s, only refusals: internal"
    assert watched.incidents[0] == Incident(Kind.SILENCE, text)


async def test_agent_answers_no_bytes__a_finding(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = watched.desk.call

    async def call(resume: bytes, method: str, body: object) -> object:
        return 1 if method == MONITOR else await called(resume, method, body)

    monkeypatch.setattr(watched.desk, "call", call)
    watching = watched.watch()
    await until(lambda: bool(watched.incidents))
    watched.set(State.GAVE_UP)
    await asyncio.wait_for(watching, 60)
    assert watched.incidents[0].kind is Kind.APPRAISAL


async def test_record_s_evidence_is_lost__the_node_s_own_trouble_and_no_incident(
    watched: Watched,
) -> None:
    recorded = await watched.pi.ask(watched.job)
    await watched.pi.release_all(watched.job, watched.session, recorded.root)
    watched.set(State.RUNNING, recorded.root)
    watching = watched.watch()
    await until(lambda: any(each.startswith("not judged") for each in watched.notes))
    watched.set(State.CLEANING)
    await asyncio.wait_for(watching, 60)
    assert watched.incidents == []


async def test_own_questions_end_unexpectedly__the_effect_does_not_go_on_without_them(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_watcher: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(monitoring.Watcher, "_ask_once", broken)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(watched.watch(), 60)


async def test_task_leaves_the_machine__what_ends_with_it_is_no_incident(
    watched: Watched,
) -> None:
    watching = watched.watch()
    await until(lambda: "own appraisal: BEFORE affirmed" in watched.notes)
    watched.set(State.CLEANING)
    await watched.pi.machine.power_off()
    await asyncio.wait_for(watching, 60)
    assert watched.incidents == []


async def test_frozen_machine__power_off_by_a_daemon_that_was_restarted__it_is_gone(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be reached any more, which must not keep it running."""
    os.kill(watched.pid, signal.SIGSTOP)
    await watched.pi.machine.let_go()  # type: ignore[attr-defined]
    restarted = watched.pi.new_machine()
    restarted._boot_seconds = 1.0
    await MachineDesk(restarted, some_root()).power_off(watched.resume)
    assert watched.pi.processes() == []

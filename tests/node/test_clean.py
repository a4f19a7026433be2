"""The end of a task on its Machine, step by step, and a daemon that dies between two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.claims import Region, memory
from nodeclient.core.types import Phase
from nodeclient.duties.machine import effects, evidence_key, proof_key
from nodeclient.errors import MachineError
from nodeclient.store.database import Store
from tests.core.evidence_kit import Kit, make_kit, make_quoted

TASK = b"\x0c" * 32
EVIDENCE = make_kit(Phase.BEFORE).evidence()


class Died(Exception):
    """The daemon was killed here."""


@dataclass
class Desk:
    """A Machine that cleans, is erased and goes off; it dies or fails where it is told to."""

    dies_in: str = ""
    fails: bool = False
    log: list[str] = field(default_factory=list)
    memory: tuple[Region, ...] = ()
    quoted: bool | None = None
    asked: object = None

    async def call(self, _resume: bytes, method: str, body: object) -> object:
        if method == "ask":
            self.asked = body
            raise MachineError("it went off", "boot it")
        self._do(method)
        return b"transcript"

    async def erase(self, _resume: bytes, memory: tuple[Region, ...], quoted: bool) -> bytes:
        self.memory, self.quoted = memory, quoted
        self._do("erase")
        if self.fails:
            raise MachineError("the eraser's answer is wrong", "erase again")
        return b"proof %d" % self.log.count("erase")

    async def power_off(self, _resume: bytes) -> None:
        self._do("off")

    def _do(self, what: str) -> None:
        self.log.append(what)
        if what == self.dies_in:
            raise Died


@dataclass
class Node:
    """A store that outlives each daemon."""

    store: Store
    desk: Desk = field(default_factory=Desk)

    async def clean(self, before: bytes = EVIDENCE.root) -> ev.OutcomeEvent:
        services: Any = SimpleNamespace(
            me=None, machine=self.desk, store=self.store, note=lambda *_: None
        )
        order = do.CleanMachine(commitment=TASK, resume=b"r", before=before)
        done = await effects(services)[do.CleanMachine](order, None)  # type: ignore[arg-type]
        assert isinstance(done, ev.OutcomeEvent)
        return done


@pytest.fixture
def node() -> Node:
    store = Store(Path(":memory:"), bytes(32))
    store.put_blob(evidence_key(EVIDENCE.root), EVIDENCE.encode())
    return Node(store)


async def test_clean__in_its_order__and_what_before_stated_is_erased(node: Node) -> None:
    done = await node.clean()
    assert isinstance(done, ev.MachineCleaned)
    assert done.transcript == b"transcript"
    assert node.desk.log == ["clean", "erase", "off"]
    assert node.desk.memory == memory(EVIDENCE) != ()
    assert node.store.blob(proof_key(TASK)) == b"proof 1"


@pytest.mark.parametrize(
    ("dies_in", "again"),
    [
        ("clean", ["clean", "erase", "off"]),
        ("erase", ["erase", "off"]),  # not proved: erased again, and not asked of a dead Agent
        ("off", ["off"]),  # proved and kept: not made anew
    ],
)
async def test_clean__daemon_killed_in_between__goes_on_where_it_was(
    node: Node, dies_in: str, again: list[str]
) -> None:
    node.desk.dies_in = dies_in
    with pytest.raises(Died):
        await node.clean()
    node.desk = Desk()
    assert isinstance(await node.clean(), ev.MachineCleaned)
    assert node.desk.log == again
    assert node.store.blob(proof_key(TASK)) == b"proof 1"


@pytest.mark.parametrize("kit", [make_kit, make_quoted])
async def test_clean__vouched_for_by_a_tpm__no_proof_without_its_quote(
    node: Node, kit: Callable[[Phase], Kit]
) -> None:
    before = kit(Phase.BEFORE).evidence()
    node.store.put_blob(evidence_key(before.root), before.encode())
    await node.clean(before.root)
    assert node.desk.quoted is (kit is make_quoted)


async def test_clean__not_erased__machine_is_lost_and_nothing_looks_like_a_proof(
    node: Node,
) -> None:
    node.desk.fails = True
    lost = await node.clean()
    assert isinstance(lost, ev.MachineLost)
    assert lost.reason == "the eraser's answer is wrong"
    assert node.store.blob(proof_key(TASK)) is None
    assert node.desk.log == ["clean", "erase"]


@pytest.mark.parametrize(("phase", "told"), [(Phase.AFTER, b"proof 1"), (Phase.BEFORE, b"")])
async def test_evidence__after_the_erasure__is_asked_for_with_its_proof(
    node: Node, phase: Phase, told: bytes
) -> None:
    await node.clean()
    parameters = SimpleNamespace(chain_id=1, market=b"\x01" * 20)
    me: Any = SimpleNamespace(parameters=parameters, address=b"\x02" * 20)
    services: Any = SimpleNamespace(
        me=me, machine=node.desk, store=node.store, note=lambda *_: None
    )
    task: Any = SimpleNamespace(id=1, commitment=TASK)
    order = do.TakeEvidence(
        commitment=TASK,
        task=task,
        phase=phase,
        attempt=1,
        nonces=((b"\x03" * 20, b"\x04" * 32),),  # type: ignore[arg-type]
        resume=b"r",
        session_hash=bytes(32),
        during=(),
        transcript=b"transcript",
    )
    await effects(services)[do.TakeEvidence](order, None)  # type: ignore[arg-type]
    assert isinstance(node.desk.asked, dict)
    assert (node.desk.asked["proof"], node.desk.asked["cable"]) == (told, b"")

"""What an operator decided, kept and given; and how it is ordered through the control interface."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from nodeclient.commands import motion as commands
from nodeclient.control.motions import motion_routes
from nodeclient.core.admission import (
    MAKER_ZYMBIT,
    AdmissionParameters,
    Motion,
    MotionKind,
    MotionState,
    able_among,
)
from nodeclient.core.types import Address, Verdict
from nodeclient.duties.proposing import Proposer
from nodeclient.store.database import Store
from nodeclient.upkeep.decisions import Decisions, decision_path, load_decision, save_decision

SUBJECT, MOVER = b"\x05" * 32, Address(b"m" * 20)
MOTION = Motion(3, MotionKind.BAR, MOVER, 0, SUBJECT, bytes(32), bytes(32), 60)
YES, NO = Verdict.AFFIRMING, Verdict.CONTRAINDICATED


def test_decision__saved__read_for_that_kind_and_subject_only(tmp_path: Path) -> None:
    assert load_decision(tmp_path, MotionKind.BAR, SUBJECT) is None
    for verdict in (YES, NO):
        save_decision(tmp_path, MotionKind.BAR, SUBJECT, verdict)
        assert load_decision(tmp_path, MotionKind.BAR, SUBJECT) is verdict
    assert load_decision(tmp_path, MotionKind.BAR_MAKER, SUBJECT) is None
    assert load_decision(tmp_path, MotionKind.BAR, bytes(32)) is None
    assert decision_path(tmp_path, MotionKind.BAR, SUBJECT).stat().st_mode & 0o777 == 0o600


def test_decision__saved__durable_with_every_name_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    save_decision(tmp_path, MotionKind.BAR, SUBJECT, YES)
    path = decision_path(tmp_path, MotionKind.BAR, SUBJECT)
    assert {str(tmp_path), str(path.parent)} < set(synced)


@pytest.mark.parametrize("text", [b"", b"YES", b"yes\nno", b"yes but", b"\xff", b"yes" + b" " * 99])
def test_decision__file_says_something_else__decides_nothing(tmp_path: Path, text: bytes) -> None:
    save_decision(tmp_path, MotionKind.BAR, SUBJECT, YES)
    decision_path(tmp_path, MotionKind.BAR, SUBJECT).write_bytes(text)
    read = load_decision(tmp_path, MotionKind.BAR, SUBJECT)
    assert read is (YES if text.startswith(b"yes  ") else None)


def test_decisions__decided_anew__counts_from_the_next_question_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", bytes(32))
    decisions = Decisions(tmp_path, store)
    assert decisions.decide(MOTION) is None
    for verdict in (YES, NO):
        save_decision(tmp_path, MotionKind.BAR, SUBJECT, verdict)
        assert decisions.decide(MOTION) is verdict
        assert decisions.decide(replace(MOTION, kind=MotionKind.BAR_MAKER)) is None
    store.close()


def test_decisions__none__the_operator_is_told_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", bytes(32))
    decisions = Decisions(tmp_path, store)
    for _ in range(3):
        decisions.decide(MOTION)
    told = [what for _, _, what in store.notes() if "motion decide" in what]
    assert len(told) == 1
    assert SUBJECT.hex() in told[0]
    store.close()


SEATS = tuple(Address(bytes([n]) * 20) for n in range(1, 6))


@pytest.mark.parametrize(
    ("barred", "accused", "able"),
    [
        ((), (), SEATS),
        ((), SEATS[:2], SEATS[2:]),
        (SEATS[:1], SEATS[1:2], SEATS[2:]),
        ((), SEATS[:3], SEATS),  # most are accused: they vote, too
        (SEATS[:1], SEATS[1:3], SEATS[1:]),
        (SEATS[:3], (), ()),  # most are barred: nobody does
    ],
)
def test_able__barred_and_accused__as_the_ledger_counts(
    barred: tuple[Address, ...], accused: tuple[Address, ...], able: tuple[Address, ...]
) -> None:
    assert able_among(SEATS, barred, accused) == able


# --- what is ordered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "subject"),
    [
        ({"chip": "0x" + "05" * 32}, (MotionKind.BAR, SUBJECT)),
        ({"maker": "zymbit"}, (MotionKind.BAR_MAKER, MAKER_ZYMBIT)),
        ({"maker": "0x" + "05" * 32}, (MotionKind.BAR_MAKER, SUBJECT)),
        ({"name": "0x" + "6d" * 20}, (MotionKind.NAME, bytes(12) + MOVER)),
        ({"dismiss": "0x" + "6d" * 20}, (MotionKind.DISMISS, bytes(12) + MOVER)),
    ],
)
def test_subject__of_options__as_the_ledger_has_it(given: dict[str, str], subject: Any) -> None:
    named: dict[str, str | None] = dict.fromkeys(("chip", "maker", "name", "dismiss"))
    assert commands.subject_of(**(named | given)) == subject


@pytest.mark.parametrize(
    "given",
    [{}, {"chip": "0x" + "05" * 31}, {"chip": "zymbit"}, {"name": "0x" + "05" * 32},
     {"chip": "0x" + "05" * 32, "maker": "zymbit"}, {"dismiss": "nonsense"}],
)  # fmt: skip
def test_subject__none_two_or_no_such_thing__refused(given: dict[str, str]) -> None:
    named: dict[str, str | None] = dict.fromkeys(("chip", "maker", "name", "dismiss"))
    with pytest.raises(commands.NoSuchSubject):
        commands.subject_of(**(named | given))


def test_state__windows_over__void() -> None:
    terms = AdmissionParameters(2, 1, 40, 60, 7, 1)
    undrawn, drawn = None, (MOVER,)
    for head, members, said in ((99, undrawn, "OPEN"), (100, undrawn, "VOID"),
                                (159, drawn, "OPEN"), (160, drawn, "VOID")):  # fmt: skip
        assert commands.state_of(MotionState.OPEN, MOTION, terms, head, members) == said
    assert commands.state_of(MotionState.CARRIED, MOTION, terms, 999, drawn) == "CARRIED"


class Opened:
    """Takes every motion."""

    def __init__(self) -> None:
        self.asked: list[tuple[MotionKind, bytes, bytes]] = []

    async def propose(self, kind: MotionKind, subject: bytes, evidence: bytes) -> Motion:
        self.asked.append((kind, subject, evidence))
        return MOTION


async def test_control__motion__opened_or_refused() -> None:
    opened, app = Opened(), web.Application()
    app.add_routes(motion_routes(cast(Proposer, opened)))
    good = {"kind": "bar_maker", "subject": "0x" + "05" * 32, "evidence": "06" * 32}
    bad: list[Any] = [
        [], {}, "x", good | {"kind": "admit"}, good | {"kind": 3}, good | {"subject": "05"},
        good | {"evidence": None}, good | {"subject": ["05" * 32]},
    ]  # fmt: skip
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/v1/motions", json=good)
        assert (answer.status, await answer.json()) == (200, {"motion": 3, "round": 60})
        for body in bad:
            refused = await client.post("/v1/motions", json=body)
            assert refused.status == 400, body
            assert (await refused.json())["next_step"]
        assert (await client.post("/v1/motions", data=b"{")).status == 400
    assert opened.asked == [(MotionKind.BAR_MAKER, SUBJECT, b"\x06" * 32)]

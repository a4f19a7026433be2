"""From an incident to what is done about it: durable, in order, and seen by the operator."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.control.server import Control, reasons_of
from nodeclient.core import actions as do
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.responses import Response
from nodeclient.core.roles.execution import State
from nodeclient.core.types import Address, Phase
from nodeclient.inbox import Inbox
from nodeclient.machine.ban import Ban
from nodeclient.p2p.errors import PeerRefused
from nodeclient.p2p.messages import IncidentReport, pack
from nodeclient.runner import Runner
from nodeclient.store.database import Store
from nodeclient.upkeep import incidents
from nodeclient.upkeep.incidents import INCIDENTS, IncidentLog
from tests.core.test_roles import (
    COMMITMENT,
    OTHER,
    THIRD,
    accepted,
    admitted,
    seated_member,
    walk,
)
from tests.node.incident_node import Desk, IncidentNode

REPOSITORY = Path(__file__).parents[2]
Make = Callable[..., IncidentNode]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[IncidentNode] = []

    def node(state: State = State.RUNNING, **options: object) -> IncidentNode:
        made.append(IncidentNode(tmp_path, **options))  # type: ignore[arg-type]
        made[-1].hold(state)
        return made[-1]

    yield node
    for each in made:
        await each.stop()


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "machine" / INCIDENTS).read_text().splitlines()]


async def test_report__every_member_is_told(make: Make, tmp_path: Path) -> None:
    node = make()
    node.unreached = 3  # members that are away just then
    node.incidents.report(Incident(Kind.STRAY, "udp to 8.8.8.8:53"))
    async with asyncio.timeout(60):
        while len(node.asked) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert {member for member, _ in node.asked} == {OTHER, THIRD}
    told = node.asked[0][1]
    assert (told.kind, told.text, told.ended) == ("stray", "udp to 8.8.8.8:53", False)
    assert Phase(told.phase) is Phase.DURING
    assert node.desk.did == []
    assert node.ban.standing() is None
    (line,) = lines(tmp_path)
    assert line["tasks"] == [COMMITMENT.hex()]


async def test_stop_and_power_off__in_this_order(make: Make, tmp_path: Path) -> None:
    node = make()
    node.incidents.report(Incident(Kind.HARDWARE, "usb add 0951:1666"))
    await node.until_handled()
    assert node.desk.did == ["stop", "off"]
    assert node.ban.standing() is None
    assert [line.get("did") for line in lines(tmp_path)] == [None, ["stop", "power-off"]]


async def test_stop__agent_is_frozen__power_goes_all_the_same(make: Make) -> None:
    node = make(desk=Desk(frozen=True))
    node.incidents.report(Incident(Kind.HARDWARE, "usb"))
    await node.until_handled()
    assert node.desk.did == ["off"]


async def test_power_off__switch_fails__tried_until_it_works_and_banned_at_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.runner.FIRST_RETRY", 0.01)
    node = make(desk=Desk(broken=3))
    node.incidents.report(Incident(Kind.APPRAISAL, "pcr"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    banned = node.ban.standing()
    assert banned is not None
    assert banned.reason == "appraisal: pcr"
    await node.until_handled()
    assert node.desk.did == ["off"]


async def test_ban__disk_is_full__power_goes_and_the_ban_is_tried_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.runner.FIRST_RETRY", 0.01)
    node = make()
    impose, tries = node.ban.impose, 0

    def full_at_first(reason: str, at: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert node.desk.did == ["off"]
        impose(reason, at)

    monkeypatch.setattr(node.ban, "impose", full_at_first)
    node.incidents.report(Incident(Kind.APPRAISAL, "pcr"))
    await node.until_handled()
    assert node.desk.did == ["off", "off"]
    assert node.ban.standing() is not None


async def test_reboot__before_the_record__the_next_attempt_is_ordered(make: Make) -> None:
    node = make(State.POLLING)
    node.incidents.report(Incident(Kind.SILENCE, "no answer in 20 s"))
    await asyncio.sleep(0.05)
    assert [(order.phase, order.attempt) for order in node.booted] == [(Phase.BEFORE, 2)]
    assert node.desk.did == []


async def test_ban__third_stray__first_reason_stays(make: Make) -> None:
    node = make()
    for number in range(5):
        node.incidents.report(Incident(Kind.STRAY, f"frame {number}"))
    await node.until_handled()
    banned = node.ban.standing()
    assert banned is not None
    assert banned.reason == "stray: frame 2"
    assert node.desk.did == ["stop", "off"]


async def test_operator_table__decides(make: Make) -> None:
    node = make(table={Kind.HARDWARE: ((1, (Response.BAN,)),)})
    node.incidents.report(Incident(Kind.HARDWARE, "usb"))
    await node.until_handled()
    assert (node.desk.did, node.asked) == ([], [])
    assert node.ban.standing() is not None


async def test_incident__from_another_thread__is_taken(make: Make) -> None:
    node = make()
    thread = threading.Thread(target=node.incidents.report, args=(Incident(Kind.HARDWARE, "x"),))
    thread.start()
    await asyncio.to_thread(thread.join)
    await node.until_handled()
    assert node.desk.did == ["stop", "off"]


async def test_incident__no_task_on_the_machine__logged_and_no_more(
    make: Make, tmp_path: Path
) -> None:
    node = make(State.GAVE_UP)
    node.incidents.report(Incident(Kind.APPRAISAL, "a\nb"))
    await asyncio.sleep(0.02)
    assert node.ban.standing() is None
    assert [(line["text"], line["tasks"]) for line in lines(tmp_path)] == [("a?b", [])]
    assert node.notes == ["incident: appraisal"]


def test_killed_between_an_incident_and_its_response__the_next_daemon_carries_it_out(
    tmp_path: Path,
) -> None:
    def run(mode: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.node.incident_node", str(tmp_path), mode]
        return subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )

    died = run("die")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert Ban(tmp_path / "machine").standing() is None, "it died before it did anything"
    resumed = run("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == "off"
    banned = Ban(tmp_path / "machine").standing()
    assert banned is not None
    assert banned.reason == "appraisal: pcr"


def test_log__flood__two_files_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "MAX_BYTES", 1_000)
    log = IncidentLog(tmp_path)
    for number in range(100):
        log.add(kind="stray", text=f"frame {number}")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [INCIDENTS, INCIDENTS + ".1"]
    assert all(file.stat().st_size <= 1_000 for file in files)
    assert "frame 99" in files[0].read_text()


def test_orders__all_that_can_be_ordered_about_a_machine__are_known_to_the_log() -> None:
    """A Task is found by its orders: one that is missing here would hide the Task that runs."""
    about = {kind for kind in do.Action.__subclasses__() if "resume" in kind.__slots__}
    once = {"DeliverKey", "PowerOff", "RespondToIncident"}  # beside others, or after the end
    names = {kind.__name__ for kind in about} - once
    assert names <= {kind.__name__ for kind in incidents.ABOUT_MACHINE}


# ------------------------------------------------------------------ the peer's side, the operator


def question(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "commitment": COMMITMENT,
        "phase": 2,
        "attempt": 1,
        "kind": "stray",
        "text": "udp to 8.8.8.8:53",
        "ended": True,
    }
    return pack(IncidentReport(**{**fields, **changes}))  # type: ignore[arg-type]


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[tuple[Inbox, Runner, list[str]]]:
    """A member of a task that OTHER executes."""

    async def wait(_action: do.Action, _emit: object) -> None:
        await asyncio.Event().wait()

    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), admitted())
    store = Store(tmp_path / "member.db", bytes(32))
    store.apply(case, ())
    runner = Runner(store, who, dict.fromkeys(do.Action.__subclasses__(), wait), lambda _e: None)
    notes: list[str] = []
    services: Any = SimpleNamespace(
        store=store,
        note=lambda _c, what, private="": notes.append(what + private),
        directory=SimpleNamespace(is_pending=lambda _: False),
    )
    yield Inbox(services, runner), runner, notes
    await runner.stop()
    store.close()


async def test_inbox__report_of_the_executor__kept_and_in_the_journal(
    member: tuple[Inbox, Runner, list[str]],
) -> None:
    inbox, runner, notes = member
    assert await inbox.handle(OTHER, "incident", question()) == b""
    case = runner._store.case(COMMITMENT)
    assert case is not None
    told = "reported: DURING 1: stray: udp to 8.8.8.8:53, and gave the boot up"
    assert reasons_of(case) == (told,)
    assert notes == ["the executor reports: stray, boot given up: udp to 8.8.8.8:53"]


@pytest.mark.parametrize(
    ("sender", "body"),
    [
        (THIRD, question()),
        (OTHER, question(kind="weather")),
        (OTHER, question(phase=9)),
        (OTHER, question(text="two\nlines")),
        (OTHER, question(text="x" * 201)),
        (OTHER, question(commitment=b"?" * 32)),
    ],
)
async def test_inbox__report_of_anybody_else_or_malformed__refused(
    member: tuple[Inbox, Runner, list[str]], sender: Address, body: bytes
) -> None:
    inbox, runner, _ = member
    with pytest.raises(PeerRefused):
        await inbox.handle(sender, "incident", body)
    case = runner._store.case(COMMITMENT)
    assert case is not None
    assert reasons_of(case) == ()


async def test_status__ban_and_incidents__are_shown(make: Make, tmp_path: Path) -> None:
    node = make()
    node.incidents.report(Incident(Kind.APPRAISAL, "pcr"))
    await node.until_handled()
    services: Any = SimpleNamespace(ban=node.ban, store=node.store)
    shown: Any = Control(services, node.runner, None, tmp_path / "socket")._machine()
    assert shown["candidate"] is False
    assert shown["banned"]["reason"] == "appraisal: pcr"
    (line,) = shown["incidents"]
    assert (line["kind"], line["responses"]) == ("appraisal", ["report", "ban", "power-off"])
    assert line["done"] is True

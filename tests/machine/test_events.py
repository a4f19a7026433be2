"""What the Pi does with kernel events of its Machine: each written and reported once, none lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.formats.context import BEFORE, Context
from agent.formats.events import CUT, EVENT, LOST, MAX_EVENTS, Event
from agent.formats.link import HELLO, new_certificate
from agent.formats.messages import Prepare
from agent.formats.rpc import RpcError
from nodeclient.core.incidents import Incident, Kind
from nodeclient.machine import events as journals
from nodeclient.machine.events import EventJournal
from nodeclient.machine.link import Link
from nodeclient.machine.local import LocalSettings
from nodeclient.machine.supply import Supply
from tests.formats.test_taskspec import SPEC
from tests.machine.linked import Linked
from tests.machine.test_link import KEYS, SECONDS, SESSION, dial, hello

BOOT, OTHER = b"\1" * 64, b"\2" * 64
ADDED = Event(1, 250, "add", "usb", "2-1", "usb:46f4:0001")
REMOVED = Event(2, 900, "remove", "usb", "2-1", "usb:46f4:0001")


class Desk:
    """A journal in a folder, and what it reported, over as many lives as are asked for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "machine" / "events.jsonl"
        self.reported: list[Incident] = []
        self.start()

    def start(self) -> None:
        self.journal = EventJournal(self.path, self.reported.append)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.reported]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def order(*devices: str) -> object:
    spec = replace(SPEC, devices=devices)
    context = Context(1, b"\1" * 20, 2, b"\2" * 32, b"\3" * 20, BEFORE, 0)
    return Prepare(spec.encode(), context, 3).to_body()


def test_take__event__one_line_and_one_incident(desk: Desk) -> None:
    desk.journal.take(BOOT, ADDED)
    desk.journal.take(BOOT, REMOVED)
    assert [each.kind for each in desk.reported] == [Kind.HARDWARE] * 2
    assert desk.texts[0] == "kernel event 1: add usb 2-1 (usb:46f4:0001)"
    first, second = desk.lines
    assert first.pop("time") <= second.pop("time")
    assert first == {
        "boot": BOOT.hex()[:32],
        "number": 1,
        "ms": 250,
        "action": "add",
        "subsystem": "usb",
        "name": "2-1",
        "device": "usb:46f4:0001",
        "permitted": False,
    }


def test_take__said_again__also_to_a_daemon_that_started_again__once(desk: Desk) -> None:
    desk.journal.take(BOOT, ADDED)
    desk.journal.take(BOOT, ADDED)
    desk.start()
    desk.journal.take(BOOT, ADDED)
    desk.journal.take(BOOT, REMOVED)
    assert len(desk.reported) == len(desk.lines) == 2


def test_take__next_boot__counts_from_one(desk: Desk) -> None:
    desk.journal.take(BOOT, ADDED)
    desk.journal.take(OTHER, ADDED)
    assert len(desk.reported) == 2


def test_take__one_left_out__said(desk: Desk) -> None:
    desk.journal.take(BOOT, replace(ADDED, number=4))
    assert desk.texts[0] == "3 kernel events were not told"
    assert len(desk.texts) == 2


def test_take__permitted_device__kept_and_no_incident__in_that_boot_only(desk: Desk) -> None:
    desk.journal.permit(BOOT, order("usb:46f4:0001"))
    assert not desk.path.exists()  # a task's words stand in clear in no file
    desk.journal.take(BOOT, ADDED)
    desk.start()  # another daemon, which knows the task from its store
    desk.journal.take(BOOT, REMOVED, ("usb:46f4:0001",))
    assert desk.reported == []
    assert [line["permitted"] for line in desk.lines] == [True, True]
    desk.journal.take(BOOT, Event(3, 1000, "add", "usb", "2-2", "usb:46f4:0002"))
    desk.journal.take(OTHER, ADDED)
    assert len(desk.reported) == 2


def test_take__fresh_boot_after_the_run__the_task_s_devices_are_still_permitted(desk: Desk) -> None:
    desk.journal.permit(BOOT, order("usb:46f4:0001"))
    desk.journal.take(OTHER, ADDED, ("usb:46f4:0001",))
    assert desk.reported == []
    desk.journal.take(OTHER, Event(2, 9, "add", "usb", "2-2", "usb:46f4:0002"), ("usb:46f4:0001",))
    assert len(desk.reported) == 1


def test_take__killed_before_it_is_reported__told_by_the_next_daemon(desk: Desk) -> None:
    def killed(_incident: Incident) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        EventJournal(desk.path, killed).take(BOOT, ADDED)
    desk.start()
    desk.journal.take(BOOT, ADDED)
    assert len(desk.reported) == 1


@pytest.mark.parametrize("action", [LOST, CUT])
def test_take__events_are_missing__an_incident_whatever_is_permitted(
    desk: Desk, action: str
) -> None:
    desk.journal.permit(BOOT, order("usb:46f4:0001"))
    desk.journal.take(BOOT, Event(1, 5, action, "", "", "usb:46f4:0001"))
    assert len(desk.reported) == 1


def test_file__grows__bounded_and_nothing_is_told_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_FILE", 2000)
    desk.start()
    for number in range(1, MAX_EVENTS + 1):
        desk.journal.take(BOOT, replace(ADDED, number=number))
    assert sum(each.stat().st_size for each in desk.path.parent.iterdir()) <= 4000
    desk.start()
    desk.journal.take(BOOT, replace(ADDED, number=MAX_EVENTS))
    assert len(desk.reported) == MAX_EVENTS


def test_file__cut_in_a_line_or_unwritable__still_reported(desk: Desk) -> None:
    desk.path.parent.mkdir()
    desk.path.write_text('{"boot": "' + BOOT.hex()[:32] + '", "number": "x"}\n{"boot": "')
    desk.journal.take(BOOT, ADDED)
    assert len(desk.reported) == 1
    desk.path.unlink()
    desk.path.mkdir()
    desk.journal.take(BOOT, REMOVED)
    assert len(desk.reported) == 2


async def test_serve__call_of_the_agent__reaches_the_journal_under_its_session(
    desk: Desk, tmp_path: Path
) -> None:
    """Over a real channel; who has not said hello, or says nonsense, reports nothing."""

    async def refuse(*_: object) -> Any:
        raise RpcError("missing", "nothing here")

    slot: Any = None
    supply = Supply(refuse, refuse, refuse)
    settings = LocalSettings(tmp_path / "machine", boot_seconds=5.0, call_seconds=5.0)
    machine = Linked(settings, supply, slot, desk.reported.append)
    link = machine._link = Link(KEYS, machine._serve)
    port = link.listen("127.0.0.1", 0)
    certificate, key = new_certificate("agent")
    caller = await dial(port, certificate, certificate, key)
    try:
        with pytest.raises(RpcError, match="hello"):
            await caller.call(EVENT, ADDED.to_body(), SECONDS)
    finally:
        await caller.close()
    caller = await dial(port, certificate, certificate, key, agree)
    try:
        await caller.call(HELLO, hello(KEYS.boot_secret, certificate), SECONDS)
        with pytest.raises(RpcError, match="bad_request"):
            await caller.call(EVENT, [1, 2, 3], SECONDS)
        assert desk.reported == []
        await caller.call(EVENT, ADDED.to_body(), SECONDS)
        assert desk.lines[0]["boot"] == SESSION[1].hex()[:32]
        await machine.call("prepare", order("usb:46f4:0001"))
        await caller.call(EVENT, REMOVED.to_body(), SECONDS)
        assert len(desk.reported) == 1
        with pytest.raises(RpcError, match="unknown_method"):
            await caller.call("something", None, SECONDS)
    finally:
        await caller.close()
        await machine.let_go()


async def agree(_method: str, _body: object) -> object:
    return None

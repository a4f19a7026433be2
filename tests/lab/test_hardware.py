"""One boot of the lab's PC: the device that a task permits works in its container, and any other
that is plugged in is told to the Pi and to whoever asks, and is not used."""

from __future__ import annotations

import asyncio
import queue
from pathlib import Path
from typing import Any

import pytest

from agent.formats.evidence import Evidence
from agent.formats.messages import BEFORE, DURING
from agent.formats.outcome import Ending
from nodeclient.core import claims
from nodeclient.core.incidents import Incident, Kind
from nodeclient.images.build import build_runtime
from nodeclient.machine.lab.plugging import Gadget, plug_in, pull_out
from scripts.embedded.chain import ROOT
from scripts.lab.errand import RuntimeImage
from scripts.lab.rig import Rig, rig
from tests.machine.support import Pi

FOLDER = ROOT / "var" / "hardware-test"
TABLET = Gadget.USB_TABLET
SECONDS = 60.0  # until a device is heard of; nothing is measured here
READ = (
    "import os\n"
    "for folder, _, names in os.walk('/dev/bus/usb'):\n"
    "    for name in names:\n"
    "        device = os.open(os.path.join(folder, name), os.O_RDWR)\n"
    "        with open('/capsule/out/first/descriptor', 'ab') as out:\n"
    "            out.write(os.read(device, 18))\n"
)


class Channel:
    """The rig's Agent as `Pi.machine`; it is booted already."""

    def __init__(self, made: Rig) -> None:
        self._made = made

    async def call(self, method: str, body: object) -> object:
        return await asyncio.to_thread(self._made.pi.call, method, body)


def hears(heard: queue.Queue[Incident], word: str, gadget: Gadget) -> Incident:
    """The next incident; it is about this."""
    incident = heard.get(timeout=SECONDS)
    assert incident.kind is Kind.HARDWARE
    assert word in incident.text
    assert gadget.ids in incident.text
    return incident


def of_events(evidence: Evidence) -> list[tuple[str, str]]:
    events = claims.events(evidence)
    assert events is not None
    return [(each.action, each.device) for each in events]


@pytest.mark.machine
async def test_devices__permitted_one_works__others_are_told_and_not_used(tmp_path: Path) -> None:
    runtime = await asyncio.to_thread(build_runtime, ROOT / ".build" / "images", lambda _: None)
    heard: queue.Queue[Incident] = queue.Queue()
    with rig(FOLDER, lambda _: None) as made:
        owner = Pi(tmp_path / "owner", runtime.image_id, runtime.path)
        owner.machine = Channel(made)  # type: ignore[assignment]
        made.pi.get_block, made.pi.put_block = owner.get, owner.put
        made.pi.report = heard.put
        made.pc.gadgets = (TABLET,)
        image = RuntimeImage(runtime.image_id, runtime.path)
        await asyncio.to_thread(made.pi.boot, made.image, image, made.approvals.is_approved)
        job = owner.job(READ, devices=(TABLET.ids,))
        await owner.prepare(job)
        before = await owner.ask(job, BEFORE)
        assert of_events(before) == []
        plain: Any = before.claim("inventory")
        assert [row for row in plain["usb"] if row[1:3] == ["0627", "0001"]]
        await owner.release_all(job, made.pi.session, before.root)
        outcome = await owner.until_done(seconds=300.0)
        assert (outcome.status, outcome.exit_code) == (Ending.RAN, 0)
        result = owner.open_result(job, "first", outcome.results["first"])["descriptor"]
        assert (len(result), result[:2], result[8:12]) == (18, b"\x12\x01", b"\x27\x06\x01\x00")

        # The permitted device may go and come again; the Pi keeps that and is not alarmed.
        monitor = made.pc.monitor
        await asyncio.to_thread(pull_out, monitor, TABLET, TABLET.name)
        await asyncio.to_thread(plug_in, monitor, TABLET, TABLET.name)
        # Another one is an incident at once, and stands in the Evidence after it is gone.
        await asyncio.to_thread(plug_in, monitor, Gadget.USB_STICK, "stick")
        await asyncio.to_thread(hears, heard, "add usb", Gadget.USB_STICK)
        during = await owner.ask(job, DURING)
        seen: Any = during.claim("inventory")
        [stick] = [row for row in seen["usb"] if row[1:3] == ["46f4", "0001"]]
        assert stick[5:] == ["", ""]  # no interface, no driver
        assert seen["block"] == plain["block"]
        await asyncio.to_thread(pull_out, monitor, Gadget.USB_STICK, "stick")
        await asyncio.to_thread(hears, heard, "remove usb", Gadget.USB_STICK)
        told = of_events(await owner.ask(job, DURING))
        assert {each for each in told if each[1] == Gadget.USB_STICK.ids} == {
            ("add", Gadget.USB_STICK.ids),
            ("remove", Gadget.USB_STICK.ids),
        }
        assert {each[1] for each in told} == {Gadget.USB_STICK.ids, TABLET.ids}
        assert heard.empty()

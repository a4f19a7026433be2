"""Plugging hardware into the lab's PC; what its system makes of it is the lab's tests' matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeclient.errors import MachineError
from nodeclient.machine.lab import Qemu, QemuSettings
from nodeclient.machine.lab.plugging import SLOTS, Gadget, plug_in, plugged, pull_out
from nodeclient.machine.lab.qmp import command
from tests.machine.test_power import _tap
from tests.machine.wire import MAC, Wire


async def test_plug_in__every_gadget__is_there_until_it_is_pulled(
    wire: Wire, tmp_path: Path
) -> None:
    """All in one PC: each goes in, those of USB and the slots side by side."""
    await _tap("tap0")
    power = Qemu(QemuSettings(tmp_path / "pc", "tap0", MAC, memory_mib=512))
    await power.on()
    try:
        command(power.monitor, "stop")  # no firmware takes part: this is about QEMU
        before = plugged(power.monitor)
        assert {*SLOTS, "usb"} <= before
        cards = [each for each in Gadget if not each.is_usb]
        for gadget, slot in zip(cards, SLOTS, strict=False):
            plug_in(power.monitor, gadget, gadget.name, slot)
        with pytest.raises(MachineError, match="refused"):  # taken, and nothing is left of it
            plug_in(power.monitor, Gadget.NVME, "second", SLOTS[1])
        sticks = [each for each in Gadget if each.is_usb]
        for gadget in sticks:
            plug_in(power.monitor, gadget, gadget.name)
        in_it = {each.name for each in (*cards[: len(SLOTS)], *sticks)}
        assert plugged(power.monitor) - before == in_it
        for gadget in sticks:
            pull_out(power.monitor, gadget, gadget.name)
        assert plugged(power.monitor) - before == in_it - {each.name for each in sticks}
        plug_in(power.monitor, Gadget.USB_STICK, Gadget.USB_STICK.name)  # its medium went, too
    finally:
        await power.off()

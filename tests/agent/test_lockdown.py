"""After the start nothing new is used; what the real kernel makes of it is tests/lab's matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import main
from agent.lockdown import refuse_new_hardware
from agent.system import StartFailed


@pytest.fixture
def kernel(tmp_path: Path) -> tuple[Path, Path]:
    """(/sys, /proc/sys) of a kernel with two buses."""
    for bus in ("pci", "usb"):
        folder = tmp_path / "sys/bus" / bus
        folder.mkdir(parents=True)
        (folder / "drivers_autoprobe").write_text("1\n")
    (tmp_path / "settings/kernel").mkdir(parents=True)
    (tmp_path / "settings/kernel/modules_disabled").write_text("0\n")
    return tmp_path / "sys", tmp_path / "settings"


def test_refuse__every_bus_and_every_module(kernel: tuple[Path, Path]) -> None:
    sys_folder, settings = kernel
    refuse_new_hardware(sys_folder, settings)
    switches = sorted(sys_folder.rglob("drivers_autoprobe"))
    assert [each.read_text() for each in switches] == ["0", "0"]
    assert (settings / "kernel/modules_disabled").read_text() == "1"


def test_refuse__kernel_without_the_lock__does_not_start(kernel: tuple[Path, Path]) -> None:
    (kernel[1] / "kernel/modules_disabled").unlink()
    (kernel[1] / "kernel").rmdir()
    with pytest.raises(StartFailed, match="modules_disabled"):
        refuse_new_hardware(*kernel)


def test_refuse__switch_does_not_move__does_not_start(kernel: tuple[Path, Path]) -> None:
    switch = kernel[0] / "bus/usb/drivers_autoprobe"
    switch.unlink()
    switch.symlink_to("/dev/null")  # takes every word and keeps none
    with pytest.raises(StartFailed, match="use another kernel"):
        refuse_new_hardware(*kernel)


def test_refuse__no_bus_at_all__does_not_start(kernel: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="no bus"):
        refuse_new_hardware(tmp_path / "nowhere", kernel[1])


@pytest.mark.parametrize("late", [False, True])
def test_close__late_device_of_the_boot__gets_its_driver_before_the_lock(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that came before the lock is an event of the run."""
    order: list[str] = []

    class Events:
        def begin(self) -> bool:
            order.append("begin")
            return late

    monkeypatch.setattr(main, "load_drivers", lambda: order.append("drivers"))
    monkeypatch.setattr(main, "refuse_new_hardware", lambda: order.append("lock"))
    events: Any = Events()
    main.close_to_hardware(events)
    assert order == ["begin", *(["drivers"] if late else []), "lock", "begin"]

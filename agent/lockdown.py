"""From the Agent's hello on, hardware that comes is seen and not used.

No udev runs here, and nothing else loads a driver or mounts what is plugged in. What is left is the
kernel itself: it would bind drivers that are loaded already, and call modprobe when somebody asks
for a protocol, a cipher or a file system. Both end here, and the second for good: the kernel takes
no module any more before it is started again (sysctl kernel.modules_disabled, since Linux 2.6.31).

A USB device then gets no configuration, so that not even its interfaces come to be. PCI is the
exception: for a card the kernel attaches a loaded driver without asking the bus
(`pci_bus_add_device` of 6.1). What hangs on the card, of virtio, SCSI or USB, gets none; a network
card or an NVMe disk of a kind that the PC has already would appear as a device of its class, down,
unmounted and reported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.system import StartFailed

_LOCK: Final = "kernel/modules_disabled"


def refuse_new_hardware(
    sys_folder: Path = Path("/sys"), settings: Path = Path("/proc/sys")
) -> None:
    """Bind no driver to what comes, load no module. Everything in use stays so. Once per boot.

    Raises StartFailed if the kernel does not do it.
    """
    switches = sorted((sys_folder / "bus").glob("*/drivers_autoprobe"))
    for switch in switches:
        _set(switch, "0")
    if not switches:
        raise StartFailed("the kernel lists no bus; use another kernel")
    _set(settings / _LOCK, "1")


def _set(file: Path, value: str) -> None:
    try:
        file.write_text(value)
        now = file.read_text().strip()
    except OSError as error:
        raise StartFailed(f"{file}: {error.strerror}; use another kernel") from error
    if now != value:
        raise StartFailed(f"{file} stays {now}; use another kernel")

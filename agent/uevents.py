"""Kernel events about devices: the bytes of NETLINK_KOBJECT_UEVENT, parsed and judged.

Pure but for `listen`. Layout: `ACTION@DEVPATH`, then `KEY=VALUE` fields, each ended by a NUL byte
(lib/kobject_uevent.c of Linux; at most 2,048 bytes of fields and the head).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.formats.cbor import FormatError
from agent.system import StartFailed

MAX_MESSAGE: Final = 16 * 1024
MAX_PATH: Final = 2048
_NETLINK_KOBJECT_UEVENT, _KERNEL_GROUP = 15, 1
_SO_RCVBUFFORCE = 33  # socket(7)
_BUFFER = 4 << 20  # bytes: some ten thousand messages
_KEPT = ("PRODUCT", "PCI_ID", "DEVTYPE")
_WORD = re.compile(r"[a-z_-]{1,16}")
# Objects of the kernel's own making that stand below /devices and are no hardware: what mounting a
# file system, opening a console or setting up a network queue gives rise to.
_NO_HARDWARE: Final = frozenset({"bdi", "queues", "vc", "vtconsole", "workqueue", "wakeup"})
# Whose "change" says how a device fares, not that another one is there.
_CONDITION: Final = frozenset({"hwmon", "power_supply", "thermal"})
_USB = re.compile(r"([0-9a-f]{1,4})/([0-9a-f]{1,4})/[0-9a-f]{1,4}")
_PCI = re.compile(r"([0-9A-F]{4}):([0-9A-F]{4})")


@dataclass(frozen=True, slots=True)
class Uevent:
    """path: DEVPATH, below /sys. fields: what of the rest says which device it is."""

    action: str
    path: str
    subsystem: str
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_hardware(self) -> bool:
        """Whether a device came, went or changed. What is not known is hardware."""
        if not self.path.startswith("/devices/") or self.subsystem in _NO_HARDWARE:
            return False
        return not (self.action == "change" and self.subsystem in _CONDITION)

    @property
    def device(self) -> str:
        """`usb:vvvv:pppp` or `pci:vvvv:pppp` if the message itself says so, or nothing."""
        if found := _USB.fullmatch(self.fields.get("PRODUCT", "")):
            if self.subsystem == "usb":  # others have a PRODUCT of another form
                return "usb:{:0>4}:{:0>4}".format(*found.groups())
        elif found := _PCI.fullmatch(self.fields.get("PCI_ID", "")):
            return "pci:{}:{}".format(*found.groups()).lower()
        return ""


def parse(data: bytes) -> Uevent:
    """One message. Raises FormatError."""
    if not data.endswith(b"\0") or len(data) > MAX_MESSAGE:
        raise FormatError("uevent: expected fields that end with NUL")
    head, *rest = data[:-1].decode("utf-8", "replace").split("\0")
    action, _, path = head.partition("@")
    if not _WORD.fullmatch(action) or not path.startswith("/") or len(path) > MAX_PATH:
        raise FormatError("uevent: expected action@path")
    if ".." in path.split("/"):
        raise FormatError("uevent: a path that leads back")
    fields: dict[str, str] = {}
    for each in rest:
        key, is_field, value = each.partition("=")
        if not is_field or key in fields:
            raise FormatError("uevent: expected KEY=VALUE, each key once")
        fields[key] = value
    if (fields.get("ACTION"), fields.get("DEVPATH")) != (action, path):
        raise FormatError("uevent: the head differs from the fields")
    kept = {key: fields[key] for key in _KEPT if key in fields}
    return Uevent(action, path, fields.get("SUBSYSTEM", ""), kept)


def listen() -> socket.socket:
    """A socket that gets every event of this network namespace from now on. Raises StartFailed."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    try:
        found = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
        try:
            found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            found.bind((0, _KERNEL_GROUP))
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise StartFailed(f"no kernel events ({error.strerror}); use another kernel") from error
    return found

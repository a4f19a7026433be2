"""The loops around the case: once one was opened, nothing is done with the device any more.

The device notes a breach also while no Node runs; a file of the Node's remembers it from the moment
it is seen, so that to clear the device's record, or to restart, helps nobody. Only the operator
lifts that.
"""

from __future__ import annotations

import logging
import struct
import threading
import time

from nodeclient.finding import Finding
from nodeclient.roots.base import RootError, RootTampered
from nodeclient.roots.zymkey.link import ZymkeyLink

log = logging.getLogger(__name__)


class Perimeter:
    """``channels``: the wired ones; ``finding``: where a breach is kept, None for a root that is
    being made."""

    def __init__(self, link: ZymkeyLink, channels: frozenset[int], finding: Finding | None) -> None:
        self._link, self.channels, self.finding = link, channels, finding
        self._breached = threading.Event()
        self._unwritten: list[int] = []  # channels of a breach that no file tells of yet

    def check(self) -> None:
        """Raises RootTampered after a breach, RootError where the device cannot tell."""
        if not self._breached.is_set():
            if self.finding is not None and self.finding.standing():
                self._breached.set()
            elif opened := self._opened():
                self._breached.set()
                self._unwritten = opened
        if self._breached.is_set():
            self._remember()
            raise RootTampered(
                "root: the Zymkey's perimeter was breached",
                "look at the device; its keys count as lost: make a new node with a new device."
                " Was it you? Clear its record, then: sealrun node forget-breach",
            )

    def _opened(self) -> list[int]:
        """The wired channels on which the device noted a breach."""
        if not self.channels:
            return []
        events = self._link.ask_if_offered(b"P") or b""  # some models have none
        times = struct.unpack(f"!{len(events) // 4}I", events[: len(events) // 4 * 4])
        if max(self.channels) >= len(times):
            raise RootError(
                f"root: the Zymkey has no perimeter channel {max(self.channels)}",
                "name the wired ones in the configuration: [root] perimeter",
            )
        return [channel for channel in sorted(self.channels) if times[channel]]

    def _remember(self) -> None:
        """A full disk must not keep the root from saying it; it is tried again at each use."""
        opened = self._unwritten
        if self.finding is None or not opened:
            return
        try:
            self.finding.impose(f"perimeter channels {opened} were opened", int(time.time()))
            self._unwritten = []
        except OSError as error:
            log.error("the breach cannot be written down: %s", error.strerror)

"""Who the Machine tried to reach: each dropped frame as a line of ``strays.jsonl``, at once.

Aggregated by kind, phase and what the frame says of itself: the first is written as it comes, what
repeats within a second in one line with its count. A flood is bounded three times: the kernel hands
over so many frames a second (`firewall.LOGGED_PER_SECOND`), so many lines are written a second, and
the file is bounded. What is not listed is counted all the same, by the rules themselves.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from dataclasses import asdict
from pathlib import Path

from agent.formats.cable import MAX_SIGHTINGS, Sighting
from agent.formats.cbor import FormatError
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.machine.jsonlines import JsonLines
from nodeclient.machine.netboot import nflog
from nodeclient.machine.netboot.frames import Frame

NAME = "strays.jsonl"
WINDOW_SECONDS = 1.0
LINES = 16  # new kinds of frames that a window lists
_BATCH = 64  # datagrams between two looks at what else there is to do
_RUNNING = "running"
_log = logging.getLogger(__name__)
_Seen = tuple[str, str, Frame]  # kind and phase, as the rule's prefix says them


class Strays:
    """Reads one NFLOG group. `start` and `stop` belong to one event loop.

    folder: where the log goes. report: hears of each line of a Machine that runs.
    """

    def __init__(self, folder: Path, group: int, report: Report) -> None:
        self._lines, self._group, self._report = JsonLines(folder / NAME), group, report
        self._socket: socket.socket | None = None
        self._window: asyncio.TimerHandle | None = None
        self._repeats: dict[_Seen, int] = {}  # of those that this window has listed
        self._unlisted = 0
        self._running: dict[Frame, int] = {}  # the first kinds of this boot's RUNNING

    def start(self) -> None:
        """Begin to read. Raises MachineError. Harmless twice."""
        if self._socket is None:
            self._socket = nflog.listen(self._group)
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def stop(self) -> None:
        """Read what is there, write it, and end. Harmless twice."""
        if self._socket is None:
            return
        self._drain()
        plain, self._socket = self._socket, None
        asyncio.get_running_loop().remove_reader(plain.fileno())
        plain.close()
        self._close_window()

    def forget(self) -> None:
        """Another boot begins: what an earlier one sent is none of its."""
        self._running.clear()

    @property
    def running(self) -> tuple[Sighting, ...]:
        """The first kinds of frames that this boot's Machine sent while it ran."""
        return tuple(
            Sighting(
                each.protocol,
                each.source,
                each.source_port,
                each.destination,
                each.destination_port,
                count,
            )
            for each, count in self._running.items()
        )

    def _drain(self) -> None:
        assert self._socket is not None
        for _ in range(_BATCH):
            try:
                data = self._socket.recv(nflog.MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the kernel dropped some: they are counted there
                    raise
                continue
            try:
                for logged in nflog.parse_datagram(data):
                    self._see(logged)
            except FormatError as error:
                _log.warning("cable: the kernel's log is not understood: %s", error)

    def _see(self, logged: nflog.Logged) -> None:
        kind, _, phase = logged.prefix.partition(" ")
        seen = (kind, phase, logged.frame)
        if phase == _RUNNING and (
            logged.frame in self._running or len(self._running) < MAX_SIGHTINGS
        ):
            self._running[logged.frame] = self._running.get(logged.frame, 0) + 1
        if self._window is None:
            loop = asyncio.get_running_loop()
            self._window = loop.call_later(WINDOW_SECONDS, self._close_window)
        if seen in self._repeats:
            self._repeats[seen] += 1
        elif len(self._repeats) < LINES:
            self._repeats[seen] = 0
            self._write(seen, 1)
        else:
            self._unlisted += 1

    def _close_window(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._window = None
        repeats, self._repeats = self._repeats, {}
        unlisted, self._unlisted = self._unlisted, 0
        for seen, count in repeats.items():
            if count:
                self._write(seen, count)
        if unlisted:
            self._lines.write({"not_listed": unlisted})

    def _write(self, seen: _Seen, count: int) -> None:
        kind, phase, frame = seen
        said = {name: value for name, value in asdict(frame).items() if name not in _absent(frame)}
        said["ether_type"] = f"{frame.ether_type:#06x}"
        self._lines.write({"phase": phase, "kind": kind, **said, "count": count})
        if phase == _RUNNING:
            self._report(Incident(Kind.STRAY, f"{kind}: {frame}, {count} frames"))


def _absent(frame: Frame) -> set[str]:
    ports = {"source_port", "destination_port"}
    absent = set() if frame.source_port or frame.destination_port else ports
    return absent | ({"vlan"} if frame.vlan < 0 else set())

"""What a Pi says of its cable: how many frames it dropped, and which ones while the Machine ran.

It travels with every question, and the Agent copies it unread into the claim ``cable``. It is the
word of the Pi alone. Counters belong to the Pi and never go back while it runs; ``began`` are those
of the moment at which this boot began, so that a reader sees what came since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.shape import as_int, as_list, as_map, as_text

MAX_CABLE = 16 << 10  # bytes of an encoded report
MAX_SIGHTINGS = 32
PHASES = ("off", "booting", "running")
# stray: the Machine, for what it may not reach. stranger: another sender. leak: something on the
# Pi that tried to send. foreign: another interface's traffic for the cable's address.
COUNTERS = (
    *(f"{kind}_{phase}" for kind in ("stray", "stranger") for phase in PHASES),
    *("leak", "foreign"),
)
_RUNNING = ("stray_running", "stranger_running")
_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class Sighting:
    """Frames that were dropped while the Machine ran, alike in all that is said here.

    protocol: ``tcp``, ``arp-request``, ``ip-47``, ``0x88b5`` and so on. source, destination: IP
    addresses, of frames without any MACs. Ports are 0 where there are none.
    """

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    count: int

    def to_body(self) -> list[object]:
        """The row in a report."""
        near, far = [self.source, self.source_port], [self.destination, self.destination_port]
        return [self.protocol, *near, *far, self.count]

    @classmethod
    def from_body(cls, obj: object) -> Sighting:
        """Parse a row. Raises FormatError."""
        protocol, source, source_port, destination, port, count = as_list(obj, 6, 6, "sighting")
        return cls(
            as_text(protocol, 1, 16, "protocol"),
            as_text(source, 1, 45, "source"),
            as_int(source_port, 0, 65535, "source port"),
            as_text(destination, 1, 45, "destination"),
            as_int(port, 0, 65535, "destination port"),
            as_int(count, 1, _MOST, "count"),
        )


@dataclass(frozen=True, slots=True)
class CableReport:
    """``began`` and ``now``: every counter of COUNTERS. ``seen``: the first kinds of frames that
    were dropped while this boot ran, as far as the Pi's daemon could list them."""

    began: Mapping[str, int]
    now: Mapping[str, int]
    seen: tuple[Sighting, ...] = ()

    @property
    def strays(self) -> int:
        """Frames dropped while the Machine ran, since this boot began; also another sender's: who
        changes its address is no less a stray."""
        return sum(self.now[name] - self.began[name] for name in _RUNNING)

    def since(self, earlier: CableReport) -> int | None:
        """The same since an earlier boot began; None if the counters began anew in between."""
        if any(self.now[name] < earlier.now[name] for name in COUNTERS):
            return None
        return sum(self.now[name] - earlier.began[name] for name in _RUNNING)

    def encode(self) -> bytes:
        """Bytes for the claim."""
        return cbor.encode(
            {
                "began": dict(self.began),
                "now": dict(self.now),
                "seen": [each.to_body() for each in self.seen],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> CableReport:
        """Parse. Raises FormatError, also where a counter is below what it was at the beginning."""
        body = as_map(cbor.decode(data, MAX_CABLE), ("began", "now", "seen"), "cable")
        began = _counters(body["began"], dict.fromkeys(COUNTERS, 0))
        rows = as_list(body["seen"], 0, MAX_SIGHTINGS, "seen")
        seen = tuple(Sighting.from_body(row) for row in rows)
        return cls(began, _counters(body["now"], began), seen)


def _counters(obj: object, least: Mapping[str, int]) -> dict[str, int]:
    body = as_map(obj, COUNTERS, "cable counters")
    return {name: as_int(body[name], least[name], _MOST, name) for name in COUNTERS}

"""How long a frame that the Machine sends past its Pi takes to the log, and to the incident.

Usage: python scripts/bench_isolation.py [--frames N]; as root, between two network namespaces.

The Pi's real rules and reader on a real cable (veth), frames of a raw socket at its other end, one
at a time. From just before the frame is sent until its line lies in the file. Merged into
`var/bench.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.formats.netboot import MACHINE_ADDRESS  # noqa: E402
from nodeclient.core.incidents import Incident  # noqa: E402
from nodeclient.machine.netboot import firewall  # noqa: E402
from nodeclient.machine.netboot.cable import Cable  # noqa: E402
from nodeclient.machine.netboot.firewall import Phase  # noqa: E402
from nodeclient.machine.netboot.strays import NAME  # noqa: E402
from nodeclient.machine.netboot.watch import CableWatch  # noqa: E402
from scripts._figures import REPORT, report_figures  # noqa: E402
from scripts.lab.namespaces import CABLE, Namespaces, entered  # noqa: E402

MAC = "52:54:00:77:00:01"
BOUND_SECONDS = 1.0  # issue 5: figures
PAUSE_SECONDS = 0.15  # fewer lines a second than the log takes (strays.LINES)


def measure(frames: int, folder: Path) -> dict[str, object]:
    """Send so many, each to another port."""
    spaces = Namespaces(secrets.token_hex(3), ("pi", "pc"))
    pi, pc = spaces.site("pi").namespace, spaces.site("pc").namespace
    try:
        spaces.make()
        pair = f"link add {CABLE} type veth peer name eth0 netns {pc}"
        for line in (f"-n {pi} {pair}", f"-n {pc} link set eth0 address {MAC} up"):
            subprocess.run(["ip", *line.split()], check=True)
        with entered(pc):
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            sender.bind(("eth0", 0))
        with sender, entered(pi):
            return asyncio.run(_measure(frames, folder, sender))
    finally:
        spaces.remove()


async def _measure(frames: int, folder: Path, sender: socket.socket) -> dict[str, object]:
    cable, incidents = Cable(CABLE, MAC), list[Incident]()
    watch = CableWatch(cable, folder, incidents.append)
    await firewall.apply(cable, Phase.OFF)
    await cable.attach()
    await watch.begin()
    await firewall.apply(cable, Phase.RUNNING)
    times = []
    for number in range(frames):
        begun = time.monotonic()
        sender.send(_frame(number + 1))
        wanted = f'"destination_port": {number + 1},'
        while len(incidents) <= number or wanted not in _text(folder):  # noqa: ASYNC110
            await asyncio.sleep(0)  # what is measured is the file
        times.append(time.monotonic() - begun)
        await asyncio.sleep(PAUSE_SECONDS)
    watch.stop()
    return {
        "frames": frames,
        "median_seconds": round(statistics.median(times), 5),
        "slowest_seconds": round(max(times), 5),
    }


def _text(folder: Path) -> str:
    path = folder / NAME
    return path.read_text() if path.exists() else ""


def _frame(port: int) -> bytes:
    """UDP from the Machine to a host of nobody's (RFC 5737)."""
    ends = socket.inet_aton(MACHINE_ADDRESS) + socket.inet_aton("192.0.2.1")
    head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    link = b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) + b"\x08\0"
    return link + head + struct.pack(">HHHH", 40000, port, 8, 0) + bytes(18)


def main() -> None:
    """Measure, print and merge into the report; exit code 1 beyond the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealrun-isolation-") as folder:
        figures = measure(options.frames, Path(folder))
    report_figures(options.output, "isolation", figures)
    if float(str(figures["slowest_seconds"])) > BOUND_SECONDS:
        raise SystemExit(f"bench: a stray frame was logged too late; bound {BOUND_SECONDS} s")


if __name__ == "__main__":
    main()

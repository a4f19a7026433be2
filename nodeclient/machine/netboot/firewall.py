"""What may pass the cable, and in which phase: everything else is dropped and counted.

The rules stand at the interface's ingress and egress, before ARP, bridging and routing see a frame,
so they hold for every protocol, and nothing is forwarded whatever the Pi's other settings are. They
stay when the daemon ends: a Machine whose Pi is gone must not find an open door. What they drop is
counted by phase, and copied to the daemon (`strays`) as far as a flood leaves room.
"""

from __future__ import annotations

import json
import zlib
from enum import Enum

from agent.formats.cable import COUNTERS
from agent.formats.netboot import (
    ERASE_PORT,
    HTTP_PORT,
    LINK_PORT,
    MACHINE_ADDRESS,
    PI_ADDRESS,
    PREFIX,
)
from nodeclient.errors import MachineError
from nodeclient.machine.commands import run
from nodeclient.machine.netboot import nflog
from nodeclient.machine.netboot.cable import Cable

KINDS = ("stranger", "stray", "leak", "foreign")
LOGGED_PER_SECOND, _BURST = 200, 100  # frames that the kernel copies; it counts all of them
WAKE_ON_LAN = 0x0842  # EtherType of a magic packet


class Phase(Enum):
    """Where the Machine is in its life."""

    OFF = "off"
    BOOTING = "booting"
    RUNNING = "running"
    ERASER_BOOTING = "eraser booting"
    ERASING = "erasing"

    @property
    def counted_as(self) -> str:
        """Which of `agent.formats.cable.PHASES` its dropped frames count for.

        Firmware talks while it boots whatever; an eraser that runs has as little to say to others.
        """
        as_boot, as_run = (Phase.ERASER_BOOTING,), (Phase.ERASING,)
        return "booting" if self in as_boot else "running" if self in as_run else self.value


def ruleset(cable: Cable, phase: Phase) -> str:
    """Input of ``nft -f``: one transaction, so that there is no moment without rules.

    Chains are flushed, not deleted: the counters go on from phase to phase.
    """
    cut, guard = tables(cable)
    device = f'device "{cable.interface}"'
    lines = [f"add table netdev {cut}", f"add table inet {guard}"]
    lines += [f"add counter netdev {cut} {name}" for name in COUNTERS if name != "foreign"]
    lines += [f"add counter inet {guard} foreign"]
    for hook in ("ingress", "egress"):
        base = f"type filter hook {hook} {device} priority -500; policy drop;"
        lines += [f"add chain netdev {cut} {hook} {{ {base} }}", f"flush chain netdev {cut} {hook}"]
    base = "type filter hook prerouting priority raw; policy accept;"
    lines += [f"add chain inet {guard} pre {{ {base} }}", f"flush chain inet {guard} pre"]
    for kind in ("stranger", "stray"):
        lines += [f"add chain netdev {cut} {kind}", f"flush chain netdev {cut} {kind}"]
        lines += [f"add rule netdev {cut} {kind} {rule}" for rule in _dropping(cable, kind, phase)]
    lines += [f"add rule netdev {cut} ingress {rule}" for rule in _ingress(cable, phase)]
    lines += [f"add rule netdev {cut} egress {rule}" for rule in _egress(cable, phase)]
    # Linux answers for an address on every interface: the cable's is for the cable alone.
    elsewhere = f'iifname != {{ "lo", "{cable.interface}" }} ip daddr {PI_ADDRESS}/{PREFIX}'
    lines += [f"add rule inet {guard} pre {elsewhere} counter name foreign drop"]
    return "\n".join(lines) + "\n"


def tables(cable: Cable) -> tuple[str, str]:
    """Names of the two tables of one cable."""
    name = cable.interface.replace("-", "_")
    return f"sealrun_{name}", f"sealrun_guard_{name}"


async def apply(cable: Cable, phase: Phase) -> None:
    """Put the rules of a phase in force. Raises MachineError."""
    await run("nft", "-f", "-", text=ruleset(cable, phase))


async def remove(cable: Cable) -> None:
    """Take the rules away, for an interface that is no cable any more. Raises MachineError."""
    cut, guard = tables(cable)
    both = (f"netdev {cut}", f"inet {guard}")
    # "add" first: to delete a table that is not there would fail the whole transaction.
    await run("nft", "-f", "-", text="".join(f"add table {t}\ndelete table {t}\n" for t in both))


def log_group(cable: Cable) -> int:
    """The NFLOG group of one cable: the same for every daemon that comes to look after it."""
    return 1 + zlib.crc32(cable.interface.encode()) % 0xFFFF


async def count(cable: Cable) -> dict[str, int]:
    """Frames dropped since the rules stand, by kind. Raises MachineError."""
    found = await counters(cable)
    return {kind: sum(found[n] for n in COUNTERS if n.split("_")[0] == kind) for kind in KINDS}


async def counters(cable: Cable) -> dict[str, int]:
    """The same by counter (`agent.formats.cable.COUNTERS`). Raises MachineError."""
    found = dict.fromkeys(COUNTERS, 0)
    for family, table in zip(("netdev", "inet"), tables(cable), strict=True):
        listed = await run("nft", "-j", "list", "counters", "table", family, table)
        try:
            for entry in json.loads(listed)["nftables"]:
                if "counter" in entry:
                    found[entry["counter"]["name"]] = int(entry["counter"]["packets"])
        except (ValueError, KeyError, TypeError) as error:
            raise MachineError("nft's counters are not readable", "see: nft list ruleset") from (
                error
            )
    return found


def _ingress(cable: Cable, phase: Phase) -> list[str]:
    rules = [f"ether saddr != {cable.mac} jump stranger"]
    # A tag hides what is inside from some rules and not from others; nobody here sends one.
    rules += ["ether type { 8021q, 8021ad } jump stray"]
    if phase is not Phase.OFF:
        # Who it says that it is must be what it is, or the Pi would learn another's address of it.
        own = f"arp saddr ether {cable.mac} arp saddr ip {MACHINE_ADDRESS}"
        rules += [f"{own} arp daddr ip {PI_ADDRESS} accept"]
        rules += [f"{_FROM_MACHINE} tcp dport {port} accept" for port in _PORTS[phase]]
    if phase in _BOOTS:
        rules += [
            f"ip saddr {{ 0.0.0.0, {MACHINE_ADDRESS} }}"
            f" ip daddr {{ 255.255.255.255, {PI_ADDRESS} }} udp sport 68 udp dport 67 accept"
        ]
    # What has no sender never was on the cable: Linux gives the Pi its own broadcasts back here.
    return [*rules, f"ether saddr {cable.mac} jump stray", "drop"]


def _dropping(cable: Cable, kind: str, phase: Phase) -> list[str]:
    """Count, copy if there is room, drop."""
    log = f'log prefix "{kind} {phase.counted_as}" group {log_group(cable)} snaplen {nflog.SNAPLEN}'
    return [
        f"counter name {kind}_{phase.counted_as}",
        f"limit rate {LOGGED_PER_SECOND}/second burst {_BURST} packets {log}",
        "drop",
    ]


def _egress(cable: Cable, phase: Phase) -> list[str]:
    if phase is Phase.OFF:
        return [
            f"ether daddr {cable.mac} ether type {WAKE_ON_LAN:#06x} accept",
            "counter name leak drop",
        ]
    rules = [f"arp saddr ip {PI_ADDRESS} accept"]
    rules += [f"{_TO_MACHINE} tcp sport {port} accept" for port in _PORTS[phase]]
    if phase in _BOOTS:
        rules += [
            f"ether type {WAKE_ON_LAN:#06x} ether daddr {cable.mac} accept",
            f"ip saddr {PI_ADDRESS} ip daddr {{ 255.255.255.255, {MACHINE_ADDRESS} }}"
            " udp sport 67 udp dport 68 accept",
        ]
    return [*rules, "counter name leak drop"]


_FROM_MACHINE = f"ip saddr {MACHINE_ADDRESS} ip daddr {PI_ADDRESS}"
_TO_MACHINE = f"ip saddr {PI_ADDRESS} ip daddr {MACHINE_ADDRESS}"


_BOOTS = (Phase.BOOTING, Phase.ERASER_BOOTING)
_PORTS = {
    Phase.BOOTING: (HTTP_PORT, LINK_PORT),
    Phase.RUNNING: (LINK_PORT,),
    Phase.ERASER_BOOTING: (HTTP_PORT, ERASE_PORT),
    Phase.ERASING: (ERASE_PORT,),
}

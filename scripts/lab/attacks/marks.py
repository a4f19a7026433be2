"""Attacks that the breached Machine is marked by until its next boot: what is found stays found.

One boot serves all of them. What was found before an attack is taken off what is found after it:
a row says what this attack alone adds. The control run came before the first of them.
"""

from __future__ import annotations

import re
import time
from typing import Final

from nodeclient.core.incidents import Kind
from nodeclient.errors import MachineError
from nodeclient.machine.lab.plugging import Gadget, plug_in, pull_out
from scripts.lab.attacks.breach import door_of
from scripts.lab.attacks.frames import FRAMES_OF
from scripts.lab.attacks.wire import Reasons
from scripts.lab.rig import Rig
from scripts.lab.verifier import said

FRAMES: Final = 4  # one more than a policy forgives by default
_NOTICED_SECONDS: Final = 30.0  # an emulated PC on a busy host; the figure is the benchmark's


def usb_stick(rig: Rig) -> Reasons:
    """A USB stick, pulled again before anybody asks."""
    return _plugged(rig, Gadget.USB_STICK)


def pci_card(rig: Rig) -> Reasons:
    """A PCI card, pulled again before anybody asks."""
    return _plugged(rig, Gadget.PCI_CARD)


def disk(rig: Rig) -> Reasons:
    """A disk, pulled again before anybody asks."""
    return _plugged(rig, Gadget.NVME)


def network_card(rig: Rig) -> Reasons:
    """A network card, pulled again before anybody asks."""
    return _plugged(rig, Gadget.NETWORK_CARD)


def dns(rig: Rig) -> Reasons:
    """DNS queries to a resolver elsewhere."""
    return _sent(rig, "dns")


def tcp(rig: Rig) -> Reasons:
    """TCP connections to a server elsewhere."""
    return _sent(rig, "tcp")


def udp(rig: Rig) -> Reasons:
    """UDP to a port of the Pi's that is not the Agent's."""
    return _sent(rig, "udp")


def icmp(rig: Rig) -> Reasons:
    """Data in echo requests."""
    return _sent(rig, "icmp")


def ipv6(rig: Rig) -> Reasons:
    """IPv6, of which the Machine has none: UDP, in frames made by hand."""
    return _sent(rig, "ipv6")


def arp_spoof(rig: Rig) -> Reasons:
    """ARP replies: the Pi's address is the Machine's now."""
    return _sent(rig, "arp_spoof")


def mac_spoof(rig: Rig) -> Reasons:
    """Frames from another hardware address than the Machine's, to the Pi."""
    return _sent(rig, "mac_spoof")


def killed(rig: Rig) -> Reasons:
    """The Agent is killed: the Machine has no reason to run any more."""
    door_of(rig).run("kill()")
    try:
        rig.ask()
    except MachineError as error:
        return (f"machine: {error.message}",)
    return ()


def _plugged(rig: Rig, gadget: Gadget) -> Reasons:
    """Reasons that are new, and what the Pi heard of it at once: that it came, and that it went.

    Of several events of one device the first stands for all: a reason names only so many of them.
    """
    before, heard = _found(rig), len(rig.pi.incidents)
    plug_in(rig.pc.monitor, gadget, "intruder")
    try:
        came = _await_incident(rig, Kind.HARDWARE, heard, f" add .*{gadget.ids}")
    finally:
        pull_out(rig.pc.monitor, gadget, "intruder")
    place = re.escape(came.partition(": add ")[2])
    went = _await_incident(rig, Kind.HARDWARE, heard, f" remove {place}")
    told = _new(rig, before)
    events = [text for text in told if text.startswith("hotplug: ")]
    named = [text for text in events if gadget.ids in text]
    others = [text for text in told if text not in events]
    return (*named[:1], *others, *(f"pi: {text.partition(': ')[2]}" for text in (came, went)))


def _sent(rig: Rig, name: str) -> Reasons:
    """Reasons that are new, and which frames the Pi names."""
    frame = FRAMES_OF[name]()
    before, heard = _found(rig), len(rig.pi.incidents)
    door_of(rig).run(f"send({[frame.hex()] * FRAMES!r})")
    _await_incident(rig, Kind.STRAY, heard)
    named = {
        f"cable: {re.sub(r', [0-9]+ frames$', '', each.text)}"
        for each in rig.pi.incidents[heard:]
        if each.kind is Kind.STRAY
    }
    return (*_new(rig, before), *sorted(named))


def _found(rig: Rig) -> frozenset[str]:
    return frozenset(said(rig.judge(rig.ask())))


def _new(rig: Rig, before: frozenset[str]) -> Reasons:
    return tuple(text for text in said(rig.judge(rig.ask())) if text not in before)


def _await_incident(rig: Rig, kind: Kind, heard: int, pattern: str = "") -> str:
    """The first one since then that speaks of it. Raises RuntimeError."""
    end = time.monotonic() + _NOTICED_SECONDS
    while time.monotonic() < end:
        for each in rig.pi.incidents[heard:]:
            if each.kind is kind and re.search(pattern, each.text):
                return each.text
        time.sleep(0.05)
    raise RuntimeError(f"the Pi heard of no {kind.value}{pattern}; look at its own log")

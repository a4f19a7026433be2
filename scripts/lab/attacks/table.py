"""Every attack by name: what is done, to which machine, and exactly why it must be refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from scripts.lab.attacks import bus, cable, inside, marks, memory, rogue, wipe, wire
from scripts.lab.attacks.wire import Reasons
from scripts.lab.rig import Rig

_HEX = "[0-9a-f]{64}"
_PCR4 = "pcr: PCR 4: not the programs of the boot image, or not they alone"
_PCR9 = "pcr: PCR 9: the kernel was given something else than the boot image's"
_PCR11 = "pcr: PCR 11: not the parts of the boot image, or not they alone"
_ROGUE = (_PCR4, _PCR9, _PCR11)
_REPLAY = "event-log: does not replay, with the IMA list, to the quoted PCRs"
_SELECTION = "pcr: not over the PCRs that were asked for, or of another hash bank"
_AGENT = ("agent: not the agent of the boot image", f"agent: {_HEX} is no approved agent")
_RANGES = "ranges: differ from the asker's own copy of the agent"
_SESSION = "quote: made for another nonce, session or step than the evidence's"
_UNSIGNED = "quote: not signed by the attestation key that it names"
_OLDER = (
    "reset: the TPM was reset or restarted since BEFORE",
    "reset: the TPM's reset count went back",
    "reset: the TPM's clock went back",
)
_SILENT = "silence: the machine did not answer in time"
_UNPINNED = "console: sealrun: not the root that was measured; power off"
_EARLY = "machine: the eraser speaks before it was given everything"
_WRONG = "machine: the eraser's answer is wrong: it does not hold the fill"
_TWINS = "machine: the boot parameters were asked for twice: two machines share the cable"


class Stage(Enum):
    """Which machine must run: the approved image; one with a back door, in the middle of a task,
    without a trace or with those of earlier attacks; the attacker's; or none yet."""

    HONEST = "honest"
    BREACHED = "breached"
    MARKED = "marked"
    ROGUE = "rogue"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Attack:
    """`act` does it and gives the reasons of the refusal, each as "code: text"; none is a success
    of the attacker. `expected`: a pattern (re, whole) for each reason, in any order."""

    name: str
    stage: Stage
    act: Callable[[Rig], Reasons]
    expected: tuple[str, ...]

    @property
    def what(self) -> str:
        """One line for people."""
        return " ".join((self.act.__doc__ or "").split())

    def is_met(self, reasons: Reasons) -> bool:
        """Whether it was refused for exactly the expected reasons."""
        return sorted(_matches(self.expected, reasons)) == list(range(len(self.expected)))


def _matches(expected: tuple[str, ...], reasons: Reasons) -> Iterator[int]:
    """For each reason the number of its pattern; of none, a number that no pattern has."""
    for text in reasons:
        found = [n for n, one in enumerate(expected) if re.fullmatch(one, text)]
        yield found[0] if found else len(expected)


def _plugged(device: str) -> list[str]:
    """What a device is found by, and what the Pi says at once: that it came, and that it went."""
    at = rf"(usb|pci) [0-9:.-]+ \({device}\)"
    return [rf"hotplug: add {at}, [0-9]+ ms .*", f"pi: add {at}", f"pi: remove {at}"]


def _dropped(frame: str) -> list[str]:
    """What frames are found by, and what the Pi says of them at once."""
    return [r"isolation: [0-9]+ frames to others than its pi.*", f"cable: {re.escape(frame)}"]


H, B, M, R, N = Stage.HONEST, Stage.BREACHED, Stage.MARKED, Stage.ROGUE, Stage.NONE
ATTACKS: tuple[Attack, ...] = tuple(
    Attack(name, stage, act, tuple(expected))
    for name, stage, act, expected in (
        ("old-quote", H, wire.old_quote, [r"nonce: does not answer the asker's nonce; .*"]),
        (
            "other-task",
            H,
            wire.other_task,
            [
                "context: task is another than the task's",
                "context: commitment is another than the task's",
                "function: another function capsule than the task's",
            ],
        ),
        ("other-chain", H, wire.other_chain, ["context: chain_id is another than the task's"]),
        ("other-node", H, wire.other_node, ["context: node is another than the task's"]),
        ("revoked-image", H, wire.revoked_image, [f"boot-image: {_HEX} is not approved"]),
        ("unknown-maker", H, wire.unknown_maker, [r"endorsement: the EK's maker is not trusted.*"]),
        (
            "relayed-key",
            H,
            wire.relayed_key,
            ["attestation-key: quoted by another key than the node's registered one"],
        ),
        ("fewer-pcrs", H, bus.fewer_pcrs, [_SELECTION, _REPLAY]),
        ("other-bank", H, bus.other_bank, [_SELECTION, _REPLAY]),
        ("other-session", H, bus.other_session, [_SESSION]),
        ("relayed-quote", H, bus.relayed_quote, [_UNSIGNED, *_OLDER]),
        ("older-tpm-state", H, bus.older_state, _OLDER),
        (
            "kernel-text",
            H,
            memory.kernel_text,
            ["kernel: ranges differ from the asker's own copy of the boot image"],
        ),
        (
            "root-in-memory",
            H,
            memory.root_file_system,
            ["root-image: ranges differ from the asker's own copy of the boot image"],
        ),
        ("agent-in-memory", H, memory.running_agent, [*_AGENT, _RANGES]),
        ("event-log-in-memory", H, memory.event_log, [_REPLAY]),
        (
            "second-machine",
            H,
            cable.stranger,
            ["cable: frames of another machine were dropped, and nothing answered it"],
        ),
        (
            "second-container",
            B,
            inside.second_container,
            [
                "containers: 1 containers run that are not the task's",
                "executable: /waits is not approved",
            ],
        ),
        (
            "container-of-another-image",
            B,
            inside.other_image,
            [
                "containers: 2 containers, at most 1 permitted",
                "containers: a container of another image than the task's",
            ],
        ),
        (
            "container-with-more-rights",
            B,
            inside.more_rights,
            [
                "containers: 2 containers, at most 1 permitted",
                "hardening: user is not the one without rights",
                "hardening: cap_add is not set as it must be",
                "hardening: cap_drop is not set as it must be",
                "executable: /waits is not approved",
            ],
        ),
        (
            "unknown-program",
            B,
            inside.unknown_program,
            [r"executable: /run/intruder \(deleted\) is not approved"],
        ),
        (
            "program-from-memory",
            B,
            inside.program_from_memory,
            [r"executable: /memfd:intruder \(deleted\) is not approved"],
        ),
        (
            "out-of-the-container",
            B,
            inside.no_way_out,
            ["container: no way out was found, and the cable saw nothing"],
        ),
        ("agent-frozen", B, inside.frozen, [_SILENT]),
        ("agent-slowed", B, inside.slowed, [_SILENT]),
        (
            "clock-set-back",
            B,
            inside.clock_set_back,
            [r"counters: the clock was set back by 3[56][0-9]{5} ms"],
        ),
        ("usb-stick", M, marks.usb_stick, _plugged("usb:46f4:0001")),
        ("pci-card", M, marks.pci_card, _plugged("pci:1b36:0005")),
        ("disk", M, marks.disk, _plugged("pci:1b36:0010")),
        ("network-card", M, marks.network_card, _plugged("pci:1af4:1041")),
        ("dns", M, marks.dns, _dropped("stray: udp 10.77.0.2:4444 to 192.0.2.53:53")),
        ("tcp", M, marks.tcp, _dropped("stray: tcp 10.77.0.2:4444 to 192.0.2.53:443")),
        ("udp", M, marks.udp, _dropped("stray: udp 10.77.0.2:4444 to 10.77.0.1:4000")),
        ("icmp", M, marks.icmp, _dropped("stray: icmp 10.77.0.2 to 192.0.2.53")),
        ("ipv6", M, marks.ipv6, _dropped("stray: udp fe80::1:4444 to 2001:db8::53:53")),
        ("arp-spoof", M, marks.arp_spoof, _dropped("stray: arp-reply 10.77.0.1 to 192.0.2.53")),
        (
            "mac-spoof",
            M,
            marks.mac_spoof,
            _dropped("stranger: udp 10.77.0.2:4444 to 10.77.0.1:4000"),
        ),
        ("agent-killed", M, marks.killed, ["machine: the Machine went off"]),
        ("modified-uki", R, rogue.modified_uki, _ROGUE),
        (
            "command-line",
            R,
            rogue.command_line,
            [*_ROGUE, "command-line: the kernel command line is not the boot image's"],
        ),
        (
            "modified-root",
            R,
            rogue.root,
            [*_ROGUE, "root-image: ranges differ from the asker's own copy of the boot image"],
        ),
        ("replaced-agent", R, rogue.replaced_agent, [*_ROGUE, *_AGENT, _RANGES]),
        ("event-log-edited", R, rogue.edited_log, [_REPLAY]),
        ("event-log-shorter", R, rogue.shorter_log, [*_ROGUE, _REPLAY]),
        ("event-log-cut", R, rogue.cut_log, [r"event-log: event log: .*"]),
        ("event-log-oversized", R, rogue.oversized_log, [r"event-log: .* bytes exceed 524288"]),
        (
            "event-log-lying",
            R,
            rogue.lying_length,
            [r"event-log: event log: an event is longer than the log; fetch it again"],
        ),
        ("unpinned-root", N, rogue.unpinned_root, ["machine: the Machine went off", _UNPINNED]),
        ("twin-machine", N, cable.twin, [_TWINS]),
        ("wipe-skipped", N, wipe.skips, [_EARLY]),
        ("wipe-keeps-64-mib", N, wipe.keeps_64_mib, [_WRONG]),
        ("wipe-keeps-1-mib", N, wipe.keeps_1_mib, [_WRONG]),
        ("wipe-names-ranges", N, wipe.names_ranges, [_WRONG]),
        (
            "wipe-parked",
            N,
            wipe.parks_on_disk,
            [f"erasure: eraser: {text.removeprefix('pcr: ')}" for text in _ROGUE],
        ),
    )
)

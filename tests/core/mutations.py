"""Every single change to an honest task, and the reasons that it must be refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.formats.evidence import TPM_QUOTED
from agent.formats.messages import Ending
from agent.formats.p256 import SigningKey
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Endorsements,
    Nonce,
)
from nodeclient.core.reasons import Code
from nodeclient.core.types import Address, Phase, RootClass
from tests.core import evidence_kit as kits
from tests.core.evidence_kit import Kit, make_kit

BEFORE, DURING, AFTER = Phase
Mutation = Callable[[Kit], object]
C = Code


def put(path: str, value: Any) -> Mutation:
    """Set one value inside the claims; ``...`` removes it."""

    def mutate(kit: Kit) -> None:
        *parents, last = path.split("/")
        place: Any = kit.claims
        for name in parents:
            place = place[int(name) if isinstance(place, list) else name]
        if value is ...:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value

    return mutate


def add(path: str, value: Any) -> Mutation:
    """Append to one list inside the claims."""

    def mutate(kit: Kit) -> None:
        place: Any = kit.claims
        for name in path.split("/"):
            place = place[int(name) if isinstance(place, list) else name]
        place.append(value)

    return mutate


def expect(**changes: Any) -> Mutation:
    return lambda kit: kit.expect(**changes)


def refer(**changes: Any) -> Mutation:
    return lambda kit: setattr(kit, "reference", replace(kit.reference, **changes))


def transcribe(**changes: Any) -> Mutation:
    return lambda kit: setattr(kit, "transcript", replace(kit.transcript, **changes))


def change(name: str, value: Any) -> Mutation:
    return lambda kit: setattr(kit, name, value)


def both(*mutations: Mutation) -> Mutation:
    return lambda kit: [mutate(kit) for mutate in mutations]


def outcome(**changes: Any) -> Mutation:
    """Another outcome, stated and signed alike."""

    def mutate(kit: Kit) -> None:
        changed = replace(kits.OUTCOME, **changes)
        kit.claims["outcome"] = changed.to_body()
        kit.transcript = replace(kit.transcript, outcome=changed)

    return mutate


def answers(*listed: tuple[bytes, bytes, bytes]) -> Mutation:
    """Other answers of DURING, listed and signed alike."""

    def mutate(kit: Kit) -> None:
        kit.claims["during"] = [list(answer) for answer in listed]
        kit.transcript = replace(kit.transcript, answers=tuple(answer[1:] for answer in listed))

    return mutate


def checked(**changes: bool | None) -> Mutation:
    def mutate(kit: Kit) -> None:
        assert kit.transcript is not None
        now = dict(kit.transcript.checked) | changes
        kit.transcript = replace(
            kit.transcript, checked={k: v for k, v in now.items() if v is not None}
        )

    return mutate


def happen(*rows: tuple[str, str, str, str]) -> Mutation:
    """Kernel events, in order: action, subsystem, name, device."""

    def mutate(kit: Kit) -> None:
        kit.claims["events"] = [[number, 10 * number, *row] for number, row in enumerate(rows, 1)]

    return mutate


STICK = (("add", "usb", "1-1", "usb:46f4:0001"), ("remove", "usb", "1-1", "usb:46f4:0001"))
PERMITTED = (("add", "usb", "1-2", "usb:1d6b:0002"), ("bind", "usb", "1-2", "usb:1d6b:0002"))


def cable(**more: int) -> Mutation:
    """More frames dropped since the boot began, by counter."""
    return lambda kit: put("cable", kits.cable(kit.phase, **more).encode())(kit)


X32 = b"\xee" * 32
OLD = kits.before_remembered()
FLAG = "containers/own/0/flags/"
MUTATIONS: list[tuple[str, Phase, Mutation, set[Code]]] = [
    # origin
    ("old nonce", DURING, change("nonce", X32), {C.NONCE}),
    ("nonce not folded in", BEFORE, expect(nonce=Nonce(X32, kits.MEMBER)), {C.NONCE}),
    ("folded where it must be exact", BEFORE, expect(nonce=Nonce(b"\x71" * 32)), {C.NONCE}),
    (
        "another member's path",
        BEFORE,
        lambda k: k.expect(nonce=replace(k.expected.nonce, member=kits.OTHER)),
        {C.NONCE},
    ),
    ("another key signs", BEFORE, change("signer", SigningKey.generate().sign), {C.SIGNATURE}),
    ("garbage signature", DURING, change("signer", lambda _: bytes(64)), {C.SIGNATURE}),
    ("header of another root", BEFORE, change("restate", {"evidence_root": X32}), {C.HEADER}),
    ("header of another nonce", AFTER, change("restate", {"nonce_root": X32}), {C.HEADER}),
    ("header of another attempt", BEFORE, change("restate", {"attempt": 2}), {C.HEADER}),
    ("header of another session", AFTER, change("restate", {"session_key_hash": X32}), {C.SESSION}),
    ("another chain", BEFORE, put("chain/chain_id", 1), {C.CONTEXT}),
    ("another market", DURING, put("chain/market", bytes(20)), {C.CONTEXT}),
    ("another task", BEFORE, put("chain/task", 5), {C.CONTEXT}),
    ("another commitment", DURING, put("chain/commitment", X32), {C.CONTEXT}),
    ("another node", BEFORE, put("chain/node", bytes(20)), {C.CONTEXT}),
    ("another phase", DURING, put("chain/phase", 1), {C.CONTEXT}),
    ("another attempt", AFTER, put("chain/attempt", 2), {C.CONTEXT}),
    ("no context", BEFORE, put("chain", ...), {C.CLAIM_MALFORMED}),
    (
        "another session while it runs",
        DURING,
        change(
            "expected", replace(make_kit(DURING).expected, before=replace(OLD, signing=X32 * 2))
        ),
        {C.SESSION},
    ),
    (
        "another HPKE key while it runs",
        DURING,
        change("expected", replace(make_kit(DURING).expected, before=replace(OLD, hpke=X32))),
        {C.SESSION},
    ),
    (
        "no fresh boot: same HPKE key",
        AFTER,
        lambda k: k.expect(before=replace(k.expected.before, hpke=kits.FRESH.hpke)),
        {C.SESSION, C.ERASURE},
    ),
    ("BEFORE unknown while it runs", DURING, expect(before=None), {C.SESSION, C.INVENTORY}),
    ("BEFORE unknown after", AFTER, expect(before=None), {C.SESSION, C.INVENTORY, C.ERASURE}),
    (
        "nobody accepted to vouch",
        BEFORE,
        change("policy", AppraisalPolicy()),
        {C.VOUCH_NOT_PERMITTED},
    ),
    (
        "Pi vouches, TPM wanted",
        BEFORE,
        change("policy", AppraisalPolicy(frozenset({TPM_QUOTED}))),
        {C.VOUCH_NOT_PERMITTED},
    ),
    (
        "TPM claimed, no quote",
        BEFORE,
        both(put("vouch", TPM_QUOTED), change("policy", AppraisalPolicy(frozenset({TPM_QUOTED})))),
        {C.CLAIM_MALFORMED},
    ),
    ("unknown voucher", DURING, put("vouch", "MYSELF"), {C.VOUCH_NOT_PERMITTED}),
    ("simulated part", BEFORE, put("simulated", ["power"]), {C.SIMULATED_NOT_PERMITTED}),
    (
        "software root, unsaid",
        AFTER,
        change("endorsements", Endorsements(RootClass.SOFTWARE)),
        {C.SIMULATED_NOT_PERMITTED},
    ),
    ("two boot counts", BEFORE, put("counters/boot", 6), {C.COUNTERS}),
    (
        "booted while it runs",
        DURING,
        both(put("counters/boot", 8), put("boot/count", 8)),
        {C.COUNTERS},
    ),
    ("other boot nonce while it runs", DURING, put("boot/nonce", X32), {C.COUNTERS}),
    ("evidence count stands still", DURING, put("counters/evidence", 1), {C.COUNTERS}),
    ("clock goes back", DURING, put("counters/clock_ms", 99), {C.COUNTERS}),
    (
        "date set back",
        DURING,
        put("counters/time_ms", kits.DATE + 100 - 2_001),
        {C.COUNTERS},
    ),
    (
        "date set back in small steps",
        DURING,
        both(
            put("counters/time_ms", kits.DATE + 100 - 2_001),
            expect(last=replace(OLD, counters=replace(OLD.counters, time_ms=kits.DATE - 1_900))),
        ),
        {C.COUNTERS},
    ),
    ("date set forward", DURING, put("counters/time_ms", kits.DATE + 60_101), {C.COUNTERS}),
    ("AFTER dated before BEFORE", AFTER, put("counters/time_ms", kits.DATE - 1), {C.COUNTERS}),
    ("no date", BEFORE, put("counters/time_ms", ...), {C.CLAIM_MALFORMED}),
    (
        "evidence count behind the last",
        DURING,
        expect(last=replace(OLD, counters=replace(OLD.counters, evidence=2))),
        {C.COUNTERS},
    ),
    (
        "no fresh boot: same count",
        AFTER,
        both(put("counters/boot", 7), put("boot/count", 7)),
        {C.COUNTERS},
    ),
    ("no fresh boot: same boot nonce", AFTER, put("boot/nonce", b"\x07" * 32), {C.COUNTERS}),
    # machine
    ("unapproved boot image", BEFORE, put("boot/image", X32), {C.BOOT_IMAGE}),
    (
        "another image afterwards",
        AFTER,
        lambda k: k.expect(before=replace(k.expected.before, image=X32)),
        {C.BOOT_IMAGE},
    ),
    ("unapproved command line", BEFORE, refer(command_lines=frozenset({"loud"})), {C.COMMAND_LINE}),
    ("another agent", BEFORE, put("agent/digest", X32), {C.AGENT}),
    ("no agent approved", DURING, refer(agents=frozenset()), {C.AGENT}),
    ("range hash differs", DURING, put("ranges/0/3", X32), {C.RANGES}),
    ("range left out", BEFORE, put("ranges", [list(kits.RANGES[0])]), {C.RANGES}),
    ("no own copy", BEFORE, refer(ranges=()), {C.RANGES}),
    (
        "USB stick appeared",
        DURING,
        add("inventory/usb", ["1-1", "0951", "1666", "x"]),
        {C.INVENTORY},
    ),
    ("card went", AFTER, put("inventory/pci", []), {C.INVENTORY}),
    ("disk grew", AFTER, put("inventory/block/0/1", 2000), {C.INVENTORY}),
    (
        "network card appeared",
        DURING,
        add("inventory/net", ["eth1", "52:54:00:00:00:02", 1]),
        {C.INVENTORY},
    ),
    (
        "PCI device of a permitted USB number",
        DURING,
        add("inventory/pci", ["0000:00:02.0", "0x1d6b", "0x0002", "0x0c0330"]),
        {C.INVENTORY},
    ),
    (
        "disk of a device that the task does not name",
        DURING,
        add("inventory/block", ["sda", 2048, 1, 0, "usb:46f4:0001", "stick", ""]),
        {C.INVENTORY},
    ),
    ("stick plugged in and pulled", DURING, happen(*STICK), {C.HOTPLUG}),
    ("stick before the run", BEFORE, happen(*STICK), {C.HOTPLUG}),
    ("stick after the run", AFTER, happen(*STICK), {C.HOTPLUG}),
    ("device without a number", DURING, happen(("move", "net", "eth0", "")), {C.HOTPLUG}),
    ("many devices", DURING, happen(*STICK * 5), {C.HOTPLUG}),
    ("kernel dropped events", DURING, happen(("lost", "", "", "")), {C.HOTPLUG}),
    ("list of events cut", DURING, happen(("cut", "", "", "")), {C.HOTPLUG}),
    (
        "an event left out",
        DURING,
        both(happen(*PERMITTED, *PERMITTED), put("events/1/0", 3), put("events/2/0", 4)),
        {C.HOTPLUG},
    ),
    ("first event left out", DURING, put("events", [[2, 5, *PERMITTED[0]]]), {C.HOTPLUG}),
    (
        "times of events go back",
        DURING,
        both(happen(*PERMITTED), put("events/0/1", 99)),
        {C.HOTPLUG},
    ),
    ("event of another shape", DURING, put("events", [["add"]]), {C.CLAIM_MALFORMED}),
    ("inventory cut", BEFORE, add("inventory/net", "…"), {C.INVENTORY}),
    ("bus missing", BEFORE, put("inventory/usb", ...), {C.CLAIM_MALFORMED}),
    ("unapproved program", BEFORE, refer(executables=frozenset({X32})), {C.EXECUTABLE}),
    ("unapproved module", BEFORE, refer(modules=frozenset({"ext4"})), {C.MODULES}),
    ("unapproved mount", BEFORE, refer(mounts=frozenset({("/", "ext4")})), {C.MOUNTS}),
    ("unapproved socket", BEFORE, refer(sockets=frozenset()), {C.SOCKETS}),
    # cable
    ("frames to others", DURING, cable(stray_running=4), {C.ISOLATION}),
    ("frames under another address", BEFORE, cable(stranger_running=4), {C.ISOLATION}),
    ("frames of both kinds", DURING, cable(stray_running=2, stranger_running=2), {C.ISOLATION}),
    (
        "frames at the end of the run",
        AFTER,
        lambda k: put("cable", kits.cable_after(stray_running=4).encode())(k),
        {C.ISOLATION},
    ),
    ("nothing said of the cable", DURING, put("cable", b""), {C.ISOLATION}),
    ("a report that is none", BEFORE, put("cable", b"\xa0"), {C.CLAIM_MALFORMED}),
    (
        "the cable's counters went back",
        DURING,
        lambda k: k.expect(last=replace(k.expected.before, cable=kits.cable(DURING, leak=1))),
        {C.COUNTERS},
    ),
    (
        "the boot began elsewhere",
        DURING,
        lambda k: k.expect(before=replace(k.expected.before, cable=kits.cable(AFTER))),
        {C.COUNTERS},
    ),
    (
        "a cable that was not there",
        DURING,
        lambda k: k.expect(before=replace(k.expected.before, cable=None)),
        {C.COUNTERS},
    ),
    # task
    ("container before the run", BEFORE, add("containers/own", kits.CONTAINER), {C.CONTAINERS}),
    ("container after the run", AFTER, add("containers/own", kits.CONTAINER), {C.CONTAINERS}),
    ("two containers", DURING, add("containers/own", kits.CONTAINER), {C.CONTAINERS}),
    ("confined process before the run", BEFORE, put("containers/confined", True), {C.CONTAINERS}),
    ("confined process after the run", AFTER, put("containers/confined", True), {C.CONTAINERS}),
    ("confined said otherwise", DURING, put("containers/confined", 1), {C.CLAIM_MALFORMED}),
    ("foreign container", DURING, put("containers/foreign", 1), {C.CONTAINERS}),
    ("container of another image", DURING, put("containers/own/0/image", X32), {C.CONTAINERS}),
    ("container as root", DURING, put("containers/own/0/user", ""), {C.HARDENING}),
    ("container with a network", DURING, put(FLAG + "network", "bridge"), {C.HARDENING}),
    ("container writable", DURING, put(FLAG + "read_only", False), {C.HARDENING}),
    ("capability added", DURING, put(FLAG + "cap_add", ["NET_ADMIN"]), {C.HARDENING}),
    ("capabilities kept", DURING, put(FLAG + "cap_drop", []), {C.HARDENING}),
    ("privileged", DURING, put(FLAG + "privileged", True), {C.HARDENING}),
    ("new privileges", DURING, put(FLAG + "no_new_privileges", False), {C.HARDENING}),
    ("no seccomp", DURING, put(FLAG + "seccomp", False), {C.HARDENING}),
    ("more memory", DURING, put(FLAG + "memory_bytes", 65 << 20), {C.HARDENING}),
    ("swap", DURING, put(FLAG + "memory_swap_bytes", 128 << 20), {C.HARDENING}),
    ("more processes", DURING, put(FLAG + "pids", 33), {C.HARDENING}),
    ("more CPU", DURING, put(FLAG + "cpu_milli", 501), {C.HARDENING}),
    ("another mount", DURING, add(FLAG + "mounts", ["/host", True]), {C.HARDENING}),
    ("input writable", DURING, put(FLAG + "mounts/1/1", False), {C.HARDENING}),
    ("device not listed", DURING, put(FLAG + "devices", ["/dev/sda"]), {C.HARDENING}),
    ("host's IPC", DURING, put(FLAG + "ipc", "host"), {C.HARDENING}),
    ("host's PIDs", DURING, put(FLAG + "pid", "host"), {C.HARDENING}),
    ("log on disk", DURING, put(FLAG + "log", "json-file"), {C.HARDENING}),
    ("flag left out", DURING, put(FLAG + "seccomp", ...), {C.HARDENING}),
    ("another runtime image", BEFORE, put("runtime/image", X32), {C.RUNTIME_IMAGE}),
    ("runtime image absent", BEFORE, put("runtime/present", False), {C.RUNTIME_IMAGE}),
    ("runtime image not approved", BEFORE, refer(runtime_images=frozenset()), {C.RUNTIME_IMAGE}),
    ("another function capsule", BEFORE, put("function/cid", kits.INPUT_CID), {C.FUNCTION}),
    ("another function", DURING, put("function/digest", X32), {C.FUNCTION}),
    ("function digest hidden while it runs", DURING, put("function/digest", None), {C.FUNCTION}),
    ("another allow-list", DURING, add("network/policy", "evil.example:443"), {C.NETWORK}),
    ("allow-list missing", BEFORE, put("network/policy", []), {C.NETWORK}),
    ("device not the task's", BEFORE, put("devices", [["/dev/sda", "/dev/sda"]]), {C.DEVICES}),
    (
        "node under another's name",
        BEFORE,
        put("devices", [["/dev/ttyUSB0", "/dev/mem"]]),
        {C.DEVICES},
    ),
    ("outcome before the run", BEFORE, put("outcome", kits.OUTCOME.to_body()), {C.OUTCOME}),
    # after
    (
        "runtime image left",
        AFTER,
        put("runtime", {"image": kits.RUNTIME, "present": False}),
        {C.RESIDUE},
    ),
    ("function left", AFTER, put("function/cid", kits.FUNCTION_CID), {C.RESIDUE}),
    ("allow-list left", AFTER, put("network/policy", ["a.example:1"]), {C.RESIDUE}),
    ("device left", AFTER, put("devices", [["/dev/ttyUSB0", "/dev/ttyUSB0"]]), {C.RESIDUE}),
    (
        "transcript of another key",
        AFTER,
        change("transcript_signer", SigningKey.generate()),
        {C.ERASURE},
    ),
    (
        "transcript of another session",
        AFTER,
        both(
            lambda k: setattr(k, "transcript_signer", kits.FRESH.key),
            transcribe(signing=kits.FRESH.key.public),
        ),
        {C.ERASURE},
    ),
    ("transcript with another HPKE key", AFTER, transcribe(hpke=X32), {C.ERASURE}),
    (
        "transcript of another task",
        AFTER,
        lambda k: transcribe(context=replace(k.transcript.context, task=5))(k),
        {C.ERASURE},
    ),
    ("containers left", AFTER, checked(containers=False), {C.ERASURE}),
    ("scratch left", AFTER, checked(scratch=False), {C.ERASURE}),
    ("keys left", AFTER, checked(content_keys=False), {C.ERASURE}),
    ("image left", AFTER, checked(images=False), {C.ERASURE}),
    ("image not looked for", AFTER, checked(images=None), {C.ERASURE}),
    ("keys not looked for", AFTER, checked(content_keys=None), {C.ERASURE}),
    ("another check failed", AFTER, checked(memory=False), {C.ERASURE}),
    ("image in use", AFTER, transcribe(removed={"images_in_use": 1}), {C.ERASURE}),
    ("no outcome", AFTER, put("outcome", None), {C.OUTCOME}),
    ("outcome not the signed one", AFTER, put("outcome/exit_code", 1), {C.OUTCOME}),
    ("unknown status", AFTER, put("outcome/status", "FINE"), {C.CLAIM_MALFORMED}),
    ("exit code without a run", AFTER, outcome(status=Ending.TIMEOUT), {C.OUTCOME}),
    ("run without exit code", AFTER, outcome(exit_code=None), {C.OUTCOME}),
    (
        "result for an outsider",
        AFTER,
        outcome(results={**kits.OUTCOME.results, "d": kits.RESULT_B}),
        {C.RESULTS},
    ),
    ("receiver without result", AFTER, outcome(results={"b": kits.RESULT_B}), {C.RESULTS}),
    ("result not to be fetched", AFTER, expect(fetched=frozenset({kits.RESULT_B})), {C.RESULTS}),
    ("two answers only", AFTER, answers(*kits.ANSWERS[:2]), {C.DURING}),
    (
        "an answer of mine missing",
        AFTER,
        answers(kits.ANSWERS[0], kits.ANSWERS[1], (kits.OTHER, b"\x04" * 32, X32)),
        {C.DURING},
    ),
    (
        "another root under my nonce",
        AFTER,
        answers(*kits.ANSWERS[:2], (kits.MEMBER, b"\x03" * 32, X32)),
        {C.DURING},
    ),
    (
        "a question I never asked",
        AFTER,
        answers(*kits.ANSWERS, (kits.MEMBER, b"\x04" * 32, X32)),
        {C.DURING},
    ),
    ("one answer counted twice", AFTER, answers(*kits.ANSWERS, kits.ANSWERS[1]), {C.DURING}),
    (
        "an outsider asked",
        AFTER,
        answers(*kits.ANSWERS, (Address(b"\x09" * 20), b"\x04" * 32, X32)),
        {C.DURING},
    ),
    (
        "answers to others only, while I was not let ask",
        AFTER,
        both(answers(*((kits.OTHER, bytes([n]) * 32, X32) for n in range(3))), expect(answers=())),
        {C.DURING},
    ),
    (
        "ran for longer than I was let ask",
        AFTER,
        both(outcome(seconds=3_600), expect(longest=600_000)),
        {C.DURING},
    ),
    (
        "an answer the session did not sign",
        AFTER,
        add("during", [kits.OTHER, b"\x04" * 32, X32]),
        {C.DURING},
    ),
]

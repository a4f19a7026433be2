"""Every single change to what an honest PC's TPM states, and the reasons it must be refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from agent.formats.p256 import SigningKey
from agent.formats.quote import MAX_EVENT_LOG, QUOTED_PCRS
from nodeclient.core.evidence_policy import Remembered
from tests.core import evidence_kit as kits
from tests.core import tpm_builder as pcs
from tests.core.evidence_kit import Kit
from tests.core.mutations import (
    AFTER,
    BEFORE,
    DURING,
    X32,
    C,
    Mutation,
    both,
    checked,
    put,
    refer,
)
from tests.core.tpm_builder import Measurement, Pc, encode_event, encode_header


def pc_of(kit: Kit) -> Pc:
    assert kit.pc is not None
    return kit.pc


def tpm(**changes: Any) -> Mutation:
    """Another TPM, or one that states something else."""
    return lambda kit: setattr(pc_of(kit), "tpm", replace(pc_of(kit).tpm, **changes))


def pc(**changes: Any) -> Mutation:
    return lambda kit: setattr(kit, "pc", replace(pc_of(kit), **changes))


def boot(change: Callable[[list[Measurement]], object]) -> Mutation:
    """Something else was booted, and firmware and TPM say so honestly."""
    return lambda kit: change(pc_of(kit).events)


def measure(pcr: int, kind: int, data: bytes = b"x", digest: bytes | None = None) -> Mutation:
    return boot(lambda events: events.append(Measurement(pcr, kind, data, digest)))


def remeasure(pcr: int, kind: int, **changes: Any) -> Mutation:
    """Change the first event of this kind."""

    def change(events: list[Measurement]) -> None:
        place = next(i for i, e in enumerate(events) if (e.pcr, e.kind) == (pcr, kind))
        events[place] = replace(events[place], **changes)

    return boot(change)


def drop(pcr: int, kind: int) -> Mutation:
    return boot(
        lambda events: events.remove(next(e for e in events if (e.pcr, e.kind) == (pcr, kind)))
    )


def edit(change: Callable[[dict[str, Any]], object]) -> Mutation:
    """Somebody between TPM and verifier changes the claims."""
    return lambda kit: pc_of(kit).edits.append(change)


def relog(change: Callable[[bytes], bytes]) -> Mutation:
    return edit(lambda claims: claims.update(event_log=change(claims["event_log"])))


def requote(name: str, change: Callable[[bytes], bytes]) -> Mutation:
    return edit(lambda claims: claims["quote"].update({name: change(claims["quote"][name])}))


def endorse(**changes: Any) -> Mutation:
    return lambda kit: setattr(kit, "endorsements", replace(kit.endorsements, **changes))


def boot_reference(**changes: Any) -> Mutation:
    return lambda kit: refer(boot=replace(kit.reference.boot, **changes))(kit)


def before_tpm(**changes: Any) -> Mutation:
    return lambda kit: kit.expect(before=_remembered(kit, changes))


def last_tpm(**changes: Any) -> Mutation:
    return lambda kit: kit.expect(last=_remembered(kit, changes))


def _remembered(kit: Kit, changes: dict[str, Any]) -> Remembered:
    """What BEFORE showed, but for the TPM."""
    before = kit.expected.before
    assert before is not None
    assert before.tpm is not None
    return replace(before, tpm=replace(before.tpm, **changes))


def known_tpm(**changes: Any) -> Mutation:
    """The asker affirmed Evidence of this TPM in an earlier task."""

    def mutate(kit: Kit) -> None:
        facts = kits.before_quoted().tpm
        assert facts is not None
        endorse(last=replace(facts, **changes))(kit)

    return mutate


def flip(position: int) -> Callable[[bytes], bytes]:
    """Change one bit."""

    def change(data: bytes) -> bytes:
        place = position % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


def without_first_pcr4(data: bytes) -> bytes:
    """Take one event out of a log of ``honest_boot``."""
    gone = encode_event(Measurement(4, pcs.ACTION, pcs.CALLING))
    assert gone in data
    return data.replace(gone, b"")


def lying_length(data: bytes) -> bytes:
    """The last event says that it is longer than the log."""
    return data[: -29 - 4] + b"\xff\xff\xff\x7f" + data[-29:]


OTHER = SigningKey.generate()
STRANGE = encode_event(Measurement(4, pcs.APPLICATION, b"x", X32))


def relabelled(kind: int) -> bytes:
    return encode_event(Measurement(4, kind, b"x", X32))


OTHER_TPM = SigningKey.generate()
SEVEN = encode_event(Measurement(7, pcs.VARIABLE, b"SecureBoot"))
SEVEN_CHANGED = encode_event(Measurement(7, pcs.VARIABLE, b"SecureBoo!"))
MOST_PCRS = QUOTED_PCRS[:-1]

TPM_MUTATIONS: list[tuple[str, Any, Mutation, set[C]]] = [
    ("a PC without kernel events", DURING, put("events", None), {C.HOTPLUG}),
    # whose quote
    ("attestation key of another TPM", BEFORE, tpm(key=OTHER_TPM), {C.ATTESTATION_KEY}),
    ("no key registered", BEFORE, endorse(attestation_key=b""), {C.ATTESTATION_KEY}),
    ("registered zero", DURING, endorse(attestation_key=bytes(32)), {C.ATTESTATION_KEY}),
    ("never activated", BEFORE, endorse(ek_proven=False), {C.ENDORSEMENT}),
    ("unknown maker", AFTER, endorse(ek_proven=False, ek_fault="unknown maker"), {C.ENDORSEMENT}),
    ("key not restricted", BEFORE, tpm(attributes=0x40472), {C.ATTESTATION_KEY}),
    ("key that can leave", BEFORE, tpm(attributes=0x50470), {C.ATTESTATION_KEY}),
    ("key that decrypts", BEFORE, tpm(attributes=0x70472), {C.ATTESTATION_KEY}),
    ("key made outside", BEFORE, tpm(attributes=0x50452), {C.ATTESTATION_KEY}),
    ("key cut off", BEFORE, requote("ak", lambda ak: ak[:-1]), {C.ATTESTATION_KEY}),
    (
        "key off the curve",
        BEFORE,
        requote("ak", lambda ak: ak[:-32] + bytes(32)),
        {C.ATTESTATION_KEY},
    ),
    ("signed by another key", DURING, requote("signature", flip(10)), {C.QUOTE}),
    ("attest altered", DURING, requote("attest", flip(-70)), {C.QUOTE}),
    ("no quote at all", BEFORE, edit(lambda c: c.pop("quote")), {C.CLAIM_MALFORMED}),
    ("no event log", BEFORE, edit(lambda c: c.pop("event_log")), {C.CLAIM_MALFORMED}),
    (
        "Pi wanted",
        BEFORE,
        lambda k: setattr(k, "policy", replace(k.policy, vouch=frozenset({PI_ONLY}))),
        {C.VOUCH_NOT_PERMITTED},
    ),
    # what it is over
    ("old quote", DURING, pc(nonce=X32), {C.QUOTE}),
    ("another session", BEFORE, pc(session=X32), {C.QUOTE}),
    (
        "quote of another task",
        BEFORE,
        pc(context=replace(kits.context(BEFORE), task=5)),
        {C.QUOTE},
    ),
    (
        "quote of another chain",
        BEFORE,
        pc(context=replace(kits.context(BEFORE), chain_id=1)),
        {C.QUOTE},
    ),
    (
        "quote of another node",
        AFTER,
        pc(context=replace(kits.context(AFTER), node=bytes(20))),
        {C.QUOTE},
    ),
    ("quote of another phase", AFTER, pc(context=kits.context(DURING)), {C.QUOTE}),
    ("not made by a TPM", BEFORE, tpm(magic=0xFF544348), {C.QUOTE}),
    ("not a quote", BEFORE, tpm(kind=0x8017), {C.QUOTE}),
    ("flag of 2", BEFORE, tpm(safe=2), {C.QUOTE}),
    ("another scheme", BEFORE, tpm(scheme=0x1A), {C.QUOTE}),
    (
        "a PCR left out",
        BEFORE,
        tpm(selection=((pcs.SHA256, MOST_PCRS),), over=MOST_PCRS),
        {C.PCR, C.EVENT_LOG},
    ),
    (
        "a PCR left out of the selection only",
        BEFORE,
        tpm(selection=((pcs.SHA256, MOST_PCRS),)),
        {C.PCR},
    ),
    ("SHA-1 bank", BEFORE, tpm(selection=((pcs.SHA1, QUOTED_PCRS),)), {C.PCR}),
    (
        "two banks",
        BEFORE,
        tpm(selection=((pcs.SHA1, QUOTED_PCRS), (pcs.SHA256, QUOTED_PCRS))),
        {C.PCR},
    ),
    ("no PCRs", DURING, tpm(selection=(), over=()), {C.PCR, C.EVENT_LOG}),
    # the log
    ("event changed", BEFORE, relog(lambda d: d.replace(SEVEN, SEVEN_CHANGED)), {C.EVENT_LOG}),
    ("event taken out", BEFORE, relog(without_first_pcr4), {C.EVENT_LOG}),
    ("event added", BEFORE, relog(lambda d: d + SEVEN), {C.EVENT_LOG}),
    ("log truncated", BEFORE, relog(lambda d: d[:-1]), {C.EVENT_LOG}),
    (
        "log truncated after an event",
        DURING,
        relog(
            lambda d: d[
                : -len(encode_event(Measurement(5, pcs.ACTION, b"Exit Boot Services Invocation")))
            ]
        ),
        {C.EVENT_LOG},
    ),
    ("log oversized", BEFORE, relog(lambda d: d + bytes(MAX_EVENT_LOG)), {C.EVENT_LOG}),
    ("a length that lies", BEFORE, relog(lying_length), {C.EVENT_LOG}),
    ("bytes after the log", BEFORE, relog(lambda d: d + bytes(4)), {C.EVENT_LOG}),
    ("log of SHA-1 only", BEFORE, relog(lambda _: encode_header((pcs.SHA1,))), {C.EVENT_LOG}),
    ("empty log", BEFORE, relog(lambda _: b""), {C.EVENT_LOG}),
    ("IMA list truncated", BEFORE, edit(lambda c: c.update(ima=b"")), {C.EVENT_LOG}),
    ("IMA list malformed", BEFORE, edit(lambda c: c.update(ima=c["ima"][:-1])), {C.IMA}),
    ("IMA aggregate of another boot", BEFORE, pc(files=[("boot_aggregate", X32)]), {C.IMA}),
    (
        "IMA list of unapproved files",
        BEFORE,
        both(
            lambda k: setattr(k.pc, "files", [k.pc.aggregate(), ("/bin/evil", X32)]),
            refer(files=frozenset()),
        ),
        {C.IMA},
    ),
    # clock
    ("TPM reset while it runs", DURING, tpm(resets=8), {C.RESET}),
    ("TPM resumed while it runs", DURING, tpm(restarts=1), {C.RESET}),
    ("reset count goes back", AFTER, tpm(resets=6), {C.RESET, C.ERASURE}),
    ("no reset since BEFORE", AFTER, tpm(resets=7), {C.RESET, C.ERASURE}),
    ("clock goes back while it runs", DURING, tpm(time_ms=4999), {C.RESET}),
    ("clock behind the last answer", DURING, last_tpm(time_ms=6000), {C.RESET}),
    ("clock goes back over a boot", AFTER, tpm(time_ms=4999), {C.RESET}),
    ("reset count behind another task's", BEFORE, known_tpm(resets=8), {C.RESET}),
    ("restart count behind another task's", BEFORE, known_tpm(restarts=1), {C.RESET}),
    ("clock behind another task's", BEFORE, known_tpm(time_ms=5001), {C.RESET}),
    ("another TPM in BEFORE", AFTER, before_tpm(key=X32), {C.ATTESTATION_KEY, C.ERASURE}),
    ("another firmware in BEFORE", AFTER, before_tpm(firmware=X32), {C.PCR, C.ERASURE}),
    (
        "another TPM than in BEFORE, as registered by now",
        AFTER,
        both(tpm(key=OTHER), endorse(attestation_key=pcs.sha(pcs.ak_public(OTHER.public)))),
        {C.ATTESTATION_KEY},
    ),
    ("another firmware than in BEFORE", AFTER, remeasure(0, pcs.S_CRTM, digest=X32), {C.PCR}),
    (
        "TPM in BEFORE, Pi afterwards",
        AFTER,
        both(
            lambda k: setattr(k, "pc", None),
            put("vouch", PI_ONLY),
            lambda k: setattr(
                k, "policy", replace(k.policy, vouch=frozenset({PI_ONLY, TPM_QUOTED}))
            ),
        ),
        {C.RESET, C.ATTESTATION_KEY},
    ),
    # where the task's files lie
    ("files in clear", BEFORE, put("scratch/kind", "tmpfs"), {C.SCRATCH}),
    ("another cipher", DURING, put("scratch/cipher", "cipher_null-ecb"), {C.SCRATCH}),
    ("half a key", BEFORE, put("scratch/key_bits", 256), {C.SCRATCH}),
    ("results in clear", DURING, put("scratch/devices", ["dm-0"]), {C.SCRATCH}),
    ("a third disk", DURING, put("scratch/devices", ["dm-0", "dm-1", "dm-2"]), {C.SCRATCH}),
    ("disks in a fresh boot", AFTER, put("scratch/devices", ["dm-0", "dm-1"]), {C.SCRATCH}),
    ("key not looked for", AFTER, checked(scratch_key=None), {C.ERASURE}),
    ("key still there", AFTER, checked(scratch_key=False), {C.ERASURE}),
    (
        "disk mounted",
        DURING,
        edit(lambda c: c["mounts"].append(["/mnt", "ext4", "/dev/sda1", "rw"])),
        {C.MOUNTS},
    ),
    (
        "disk of another kind mounted",
        BEFORE,
        edit(lambda c: c["mounts"].append(["/mnt", "xfs", "/dev/dm-0", "rw"])),
        {C.MOUNTS},
    ),
    # what was booted
    ("image not known here", BEFORE, refer(boot=None), {C.BOOT_IMAGE}),
    ("own copy is of another image", BEFORE, boot_reference(image=X32), {C.BOOT_IMAGE}),
    ("another command line", BEFORE, put("boot/command_line", "loud"), {C.COMMAND_LINE}),
    ("agent of another image", DURING, boot_reference(agent=X32), {C.AGENT}),
    ("modified UKI", BEFORE, remeasure(4, pcs.APPLICATION, digest=X32), {C.PCR}),
    (
        "another program before it",
        BEFORE,
        boot(lambda e: e.insert(13, Measurement(4, pcs.APPLICATION, b"", X32))),
        {C.PCR},
    ),
    ("another program after it", BEFORE, measure(4, pcs.APPLICATION, digest=X32), {C.PCR}),
    ("UKI never loaded", BEFORE, drop(4, pcs.APPLICATION), {C.PCR}),
    ("boot loader's own event", BEFORE, measure(4, pcs.IPL), {C.PCR}),
    ("action that hides its name", BEFORE, measure(4, pcs.ACTION, digest=X32), {C.PCR}),
    (
        "program before the separator",
        BEFORE,
        boot(
            lambda e: e.insert(
                0, e.pop(next(i for i, x in enumerate(e) if x.kind == pcs.APPLICATION))
            )
        ),
        {C.PCR},
    ),
    ("modified initramfs", BEFORE, remeasure(11, pcs.IPL, digest=X32), {C.PCR}),
    ("part added", BEFORE, measure(11, pcs.IPL, digest=pcs.STUB[0]), {C.PCR}),
    ("part taken out", BEFORE, drop(11, pcs.IPL), {C.PCR}),
    (
        "other options for the kernel",
        BEFORE,
        remeasure(9, pcs.EVENT_TAG, digest=X32),
        {C.PCR},
    ),
    ("no initrd", BEFORE, boot(lambda e: e.pop(-2)), {C.PCR}),
    ("second initrd", BEFORE, measure(9, pcs.EVENT_TAG, digest=X32), {C.PCR}),
    ("command line given from outside", BEFORE, measure(12, pcs.IPL), {C.PCR}),
    ("system extension", BEFORE, measure(13, pcs.IPL), {C.PCR}),
    ("shim", BEFORE, measure(14, pcs.IPL), {C.PCR}),
    ("driver from a card", BEFORE, measure(2, pcs.DRIVER, digest=X32), {C.PCR}),
    ("driver under another name", BEFORE, measure(2, pcs.S_CRTM, digest=X32), {C.PCR}),
    (
        "program under the name of an action",
        BEFORE,
        both(
            measure(4, pcs.APPLICATION, digest=X32),
            relog(lambda d: d.replace(STRANGE, relabelled(pcs.ACTION))),
        ),
        {C.PCR},
    ),
    (
        "program that informs only",
        BEFORE,
        both(
            measure(4, pcs.APPLICATION, digest=X32),
            relog(lambda d: d.replace(STRANGE, relabelled(pcs.NO_ACTION))),
        ),
        {C.EVENT_LOG},
    ),
    ("firmware reports an error", BEFORE, remeasure(3, pcs.SEPARATOR, data=b"\1\0\0\0"), {C.PCR}),
    ("no separator", BEFORE, drop(6, pcs.SEPARATOR), {C.PCR}),
    ("two separators", BEFORE, measure(7, pcs.SEPARATOR, bytes(4)), {C.PCR}),
    ("unapproved firmware", BEFORE, refer(firmware=frozenset({X32})), {C.PCR}),
    # what runs
    ("kernel altered in memory", DURING, put("kernel/0/2", X32), {C.KERNEL}),
    ("kernel range left out", DURING, put("kernel", [list(kits.KERNEL[0])]), {C.KERNEL}),
    ("no own kernel", BEFORE, boot_reference(kernel=()), {C.KERNEL}),
    ("modified squashfs", DURING, put("root/1/2", X32), {C.ROOT_IMAGE}),
    ("no own root", BEFORE, boot_reference(root=()), {C.ROOT_IMAGE}),
]

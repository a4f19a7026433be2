"""Every single change to an honest proof of erasure: what a Pi that lies could show its members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.formats.erasure import KEYS, PAGE, WINDOW
from agent.formats.p256 import SigningKey
from agent.formats.quote import MAX_EVENT_LOG, QUOTED_PCRS
from nodeclient.core.evidence_policy import MOST_UNCOVERED
from tests.core import evidence_kit as kits
from tests.core import tpm_builder as pcs
from tests.core.erasure_kit import ERASER, MEMORY, MIB, RANGES, UNCOVERED, Erasure
from tests.core.evidence_kit import Kit
from tests.core.mutations import AFTER, BEFORE, DURING, X32, C, Mutation, both, put, refer
from tests.core.tpm_builder import Measurement, encode_event
from tests.core.tpm_mutations import MOST_PCRS, flip

E = {C.ERASURE}


def erasure_of(kit: Kit) -> Erasure:
    assert kit.erasure is not None
    return kit.erasure


def proved(**changes: Any) -> Mutation:
    """Another erasure was made, and its TPM quotes that one."""

    def mutate(kit: Kit) -> None:
        erasure_of(kit).proof = replace(erasure_of(kit).proof, **changes)

    return mutate


def shown(**changes: Any) -> Mutation:
    """The TPM quoted the honest one; the Pi shows another."""
    return lambda kit: erasure_of(kit).edits.append(lambda body: body.update(changes))


def over(**changes: Any) -> Mutation:
    """The TPM quoted an erasure other than the one that is shown."""
    return lambda kit: setattr(erasure_of(kit), "over", replace(erasure_of(kit).proof, **changes))


def eraser_tpm(**changes: Any) -> Mutation:
    return lambda kit: setattr(erasure_of(kit), "tpm", replace(erasure_of(kit).tpm, **changes))


def requoted(name: str, change: Callable[[bytes], bytes]) -> Mutation:
    def edit(body: dict[str, Any]) -> None:
        body["quote"][name] = change(body["quote"][name])

    return lambda kit: erasure_of(kit).edits.append(edit)


def relogged(change: Callable[[bytes], bytes]) -> Mutation:
    return lambda kit: erasure_of(kit).edits.append(
        lambda body: body.update(event_log=change(body["event_log"]))
    )


def measured(pcr: int, kind: int, digest: bytes | None = None) -> Mutation:
    """Something more was measured before the eraser quoted."""
    event = Measurement(pcr, kind, b"x", digest)
    return lambda kit: erasure_of(kit).events.append(event)


def remeasured(pcr: int, kind: int, digest: bytes) -> Mutation:
    """Something else was measured in the place of the first event of this kind."""

    def mutate(kit: Kit) -> None:
        events = erasure_of(kit).events
        place = next(i for i, e in enumerate(events) if (e.pcr, e.kind) == (pcr, kind))
        events[place] = replace(events[place], digest=digest)

    return mutate


def agent_booted(kit: Kit) -> None:
    """The boot image of the task instead of an eraser: approved, but nobody erases in it."""
    erasure_of(kit).events = pcs.honest_boot()


def refer_eraser(**changes: Any) -> Mutation:
    return refer(eraser=replace(ERASER, **changes))


def less(by: int) -> tuple[tuple[int, int], ...]:
    """The ranges without the last ``by`` bytes of the first."""
    (start, size), *rest = RANGES
    return ((start, size - by), *rest)


FIRST, SECOND = ([list(each) for each in RANGES][i] for i in (0, 1))
SPARE = MOST_UNCOVERED - UNCOVERED  # bytes that the default policy lets go besides
LAST = encode_event(Measurement(9, pcs.EVENT_TAG, b"options", ERASER.pcr9[0]))

ERASURE_MUTATIONS: list[tuple[str, Any, Mutation, set[C]]] = [
    ("no proof", AFTER, lambda k: (setattr(k, "erasure", None), put("proof", b"")(k)), E),
    ("no proof that anybody can read", AFTER, shown(version=2), E),
    ("no quote", AFTER, shown(quote=None, event_log=b""), E),
    ("proof of another shape", AFTER, shown(more=1), E),
    # which memory
    ("8 MiB more left out", AFTER, proved(ranges=less(8 * MIB)), E),
    ("one page more than accepted left out", AFTER, proved(ranges=less(SPARE + PAGE)), E),
    ("memory above 4 GiB left out", AFTER, proved(ranges=RANGES[:1]), E),
    ("memory below 4 GiB left out", AFTER, proved(ranges=RANGES[1:]), E),
    ("ranges where no memory is", AFTER, proved(ranges=((1 << 40, 44 * MIB),)), E),
    ("ranges out of order", AFTER, shown(ranges=[SECOND, FIRST]), E),
    ("one range twice", AFTER, shown(ranges=[FIRST, FIRST, SECOND]), E),
    ("a range within another", AFTER, shown(ranges=[FIRST, [FIRST[0] + PAGE, PAGE], SECOND]), E),
    ("a range in the window", AFTER, shown(ranges=[[WINDOW - PAGE, PAGE], SECOND]), E),
    ("not whole pages", AFTER, shown(ranges=[[FIRST[0], FIRST[1] - 1], SECOND]), E),
    ("a range of nothing", AFTER, shown(ranges=[[FIRST[0], 0], SECOND]), E),
    ("no range", AFTER, shown(ranges=[]), E),
    ("a range beyond all addresses", AFTER, shown(ranges=[[(1 << 64) - PAGE, 2 * PAGE]]), E),
    (
        "less accepted",
        AFTER,
        lambda k: setattr(k, "policy", replace(k.policy, uncovered=UNCOVERED - 1)),
        E,
    ),
    (
        "no memory known of BEFORE",
        AFTER,
        lambda k: k.expect(before=replace(k.expected.before, memory=())),
        E,
    ),
    ("no memory stated", BEFORE, put("memory", []), {C.INVENTORY}),
    (
        "memory added",
        DURING,
        put("memory", [*MEMORY, [1 << 33, 1 << 34, "System RAM"]]),
        {C.INVENTORY},
    ),
    # what the TPM signed
    ("ranges not those quoted", AFTER, shown(ranges=[FIRST, [SECOND[0], SECOND[1] - PAGE]]), E),
    ("nonce not the one quoted", AFTER, shown(nonce=X32), E),
    ("keys not those quoted", AFTER, shown(keys=bytes(KEYS)), E),
    ("answer not the one quoted", AFTER, shown(answer=X32), E),
    ("quote over other keys", AFTER, over(keys=bytes(KEYS)), E),
    ("quote over another answer", AFTER, over(answer=X32), E),
    ("quote over another nonce", AFTER, over(nonce=X32), E),
    ("quote over more ranges than were filled", AFTER, both(over(), proved(ranges=less(PAGE))), E),
    ("not made by a TPM", AFTER, eraser_tpm(magic=0xFF544348), E),
    ("not a quote", AFTER, eraser_tpm(kind=0x8017), E),
    ("bit of the signature", AFTER, requoted("signature", flip(-1)), E),
    ("bit of the statement", AFTER, requoted("attest", flip(-1)), E),
    ("key that can leave the TPM", AFTER, eraser_tpm(attributes=0x50470), E),
    ("fewer PCRs", AFTER, eraser_tpm(selection=((pcs.SHA256, MOST_PCRS),), over=MOST_PCRS), E),
    ("SHA-1 bank", AFTER, eraser_tpm(selection=((pcs.SHA1, QUOTED_PCRS),)), E),
    # what was booted
    ("the task's image booted, not an eraser", AFTER, agent_booted, E),
    ("eraser not known here", AFTER, refer(eraser=None), E),
    ("another eraser than it names", AFTER, refer_eraser(image=X32), E),
    ("it names the task's image", AFTER, proved(image=kits.IMAGE), E),
    ("modified eraser", AFTER, remeasured(4, pcs.APPLICATION, X32), E),
    ("a program beside it", AFTER, measured(4, pcs.APPLICATION, X32), E),
    ("modified part", AFTER, remeasured(11, pcs.IPL, X32), E),
    ("other options for its kernel", AFTER, remeasured(9, pcs.EVENT_TAG, X32), E),
    ("initrd added", AFTER, measured(9, pcs.EVENT_TAG, X32), E),
    ("command line added", AFTER, measured(12, pcs.IPL), E),
    ("driver from a card", AFTER, measured(2, pcs.DRIVER, X32), E),
    ("two separators", AFTER, remeasured(7, pcs.VARIABLE, pcs.sha(bytes(4))), E),
    ("event left out of the log", AFTER, relogged(lambda d: d[: -len(LAST)]), E),
    ("log oversized", AFTER, relogged(lambda d: d + bytes(MAX_EVENT_LOG)), E),
    ("no log", AFTER, relogged(lambda _: b""), E),
    # when, and where
    ("another TPM", AFTER, eraser_tpm(key=SigningKey.generate()), E),
    ("another firmware", AFTER, remeasured(0, pcs.S_CRTM, X32), E),
    ("quote of an erasure before the run", AFTER, eraser_tpm(resets=6), E),
    ("in the boot of the run", AFTER, eraser_tpm(resets=7), E),
    ("in the boot that answers", AFTER, eraser_tpm(resets=9), E),
    ("in a boot after this one", AFTER, eraser_tpm(resets=10), E),
]

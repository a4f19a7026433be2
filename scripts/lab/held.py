"""How the PC was held during a task, told from its Evidence and from the Pi's own records.

What stands in Evidence was affirmed by the committee. The Pi's files are its own word: they tell of
the moments between two questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.formats.erasure import ErasureProof
from agent.formats.evidence import Evidence
from agent.formats.outcome import Transcript
from nodeclient.core import claims
from nodeclient.core.erasure import read_quoted, uncovered
from nodeclient.core.tpm.material import read_material
from scripts.embedded.story import Story

RECORDS: Final = {"hardware": "events.jsonl", "strays": "strays.jsonl"}
_MAX_RECORD: Final = 64 << 20  # bytes; the Pi bounds its files well below


def held_of(before: Evidence, after: Evidence, machine: Path) -> dict[str, dict[str, Any]]:
    """Five chapters, each fact by name. ``machine``: the folder of the Pi's Machine.

    Raises FormatError for Evidence that no committee would have affirmed.
    """
    return {
        "isolation": _isolation(before, after, machine),
        "inventory": _inventory(before, after, machine),
        "questions": _questions(after),
        "erasure": _erasure(after),
        "proof": _proof(before, after),
    }


def tell(story: Story, held: Mapping[str, Mapping[str, Any]], votes: int) -> None:
    """Chapter by chapter, one line for each fact; the proof and who holds it to be one come last.

    votes: of members whose AFTER appraisal stands on chain.
    """
    for chapter, found in held.items():
        for name, value in found.items():
            story.say(f"[cyan]{chapter:>10}[/cyan]  {name.replace('_', ' ')}: {_shown(value)}")
    story.say(f"[cyan]     proof[/cyan]  computed by the Pi, appraised by {votes} members")


def _isolation(before: Evidence, after: Evidence, machine: Path) -> dict[str, Any]:
    first, last = claims.cable(before), claims.cable(after)
    whole = None if first is None or last is None else last.since(first)
    _, counts = claims.network(before)
    return {
        "frames_to_others_while_it_ran": "not told" if whole is None else whole,
        "kinds_of_them": [] if last is None else [str(each) for each in last.seen],
        "connections": dict(counts) or "none permitted",
        "lines_in_the_pi's_record": _lines(machine / RECORDS["strays"]),
    }


def _inventory(before: Evidence, after: Evidence, machine: Path) -> dict[str, Any]:
    first, last = claims.inventory(before), claims.inventory(after)
    return {
        "devices": {bus: len(rows) for bus, rows in last.items()},
        "same_before_and_after": first == last,
        "lines_in_the_pi's_record": _lines(machine / RECORDS["hardware"]),
    }


def _questions(after: Evidence) -> dict[str, Any]:
    answers = claims.during(after)
    return {
        "answered_during_the_run": len(answers),
        "by_members": len({member for member, _, _ in answers}),
    }


def _erasure(after: Evidence) -> dict[str, Any]:
    transcript = Transcript.open(claims.erasure(after))
    return {
        "removed": dict(transcript.removed),
        "looked_for_and_not_found": [name for name, gone in transcript.checked.items() if gone],
        "still_there": [name for name, gone in transcript.checked.items() if not gone] or "nothing",
    }


def _proof(before: Evidence, after: Evidence) -> dict[str, Any]:
    encoded = claims.proof(after)
    if not encoded:
        return {"memory_erased": "no proof was made"}
    proof = ErasureProof.decode(encoded)
    quoted = read_quoted(proof)
    same_key = quoted.key.digest == read_material(before).facts().key
    return {
        "bytes_of_memory_erased": proof.covered,
        "bytes_not_covered": uncovered(claims.memory(before), proof.ranges),
        "ranges": len(proof.ranges),
        "eraser_image": proof.image.hex(),
        "signed_by_the_eraser's_tpm_over_the_answer": quoted.genuine and quoted.bound,
        "with_the_key_of_before": same_key,
    }


def _lines(record: Path) -> int:
    if not record.exists():
        return 0
    with record.open("rb") as source:
        return source.read(_MAX_RECORD).count(b"\n")


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {entry}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "yes" if value is True else "no" if value is False else str(value)

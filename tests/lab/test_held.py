"""What the lab tells of how a machine was held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodeclient.core.types import Phase
from scripts.embedded.story import Story
from scripts.lab.held import held_of, tell
from tests.core import evidence_kit as kits


def test_held_of__honest_run__nothing_left_and_nothing_changed(tmp_path: Path) -> None:
    before, after = kits.make_kit(Phase.BEFORE), kits.make_kit(Phase.AFTER)
    held = held_of(before.evidence(), after.evidence(), tmp_path)
    assert list(held) == ["isolation", "inventory", "questions", "erasure", "proof"]
    assert held["isolation"]["frames_to_others_while_it_ran"] == 0
    assert held["inventory"]["same_before_and_after"] is True
    assert held["questions"]["answered_during_the_run"] == len(after.claims["during"])
    assert held["erasure"]["still_there"] == "nothing"


def test_held_of__machine_that_strayed_and_changed__says_so(tmp_path: Path) -> None:
    before, after = kits.make_kit(Phase.BEFORE), kits.make_kit(Phase.AFTER)
    after.claims["cable"] = kits.cable(Phase.AFTER, stray_running=9).encode()
    after.claims["inventory"]["pci"] = []
    (tmp_path / "events.jsonl").write_text("{}\n{}\n")
    held = held_of(before.evidence(), after.evidence(), tmp_path)
    assert held["isolation"]["frames_to_others_while_it_ran"] == 9
    assert held["inventory"]["same_before_and_after"] is False
    assert held["inventory"]["lines_in_the_pi's_record"] == 2


def test_tell__every_chapter__is_on_the_console(tmp_path: Path) -> None:
    kit = kits.make_kit(Phase.AFTER)
    held = held_of(kits.make_kit(Phase.BEFORE).evidence(), kit.evidence(), tmp_path)
    said: list[str] = []
    story = Story(as_json=True)
    story.say = said.append  # type: ignore[method-assign]
    tell(story, held, 3)
    text = "\n".join(said)
    assert all(chapter in text for chapter in held)
    assert "same before and after: yes" in text
    assert said[-1].endswith("computed by the Pi, appraised by 3 members")


def test_held_of__tpm_vouches__the_proof_is_of_this_memory_and_key(tmp_path: Path) -> None:
    before, after = kits.make_quoted(Phase.BEFORE), kits.make_quoted(Phase.AFTER)
    assert after.erasure is not None
    held = held_of(before.evidence(), after.evidence(), tmp_path)["proof"]
    assert held["bytes_of_memory_erased"] == after.erasure.proof.covered
    assert 0 < held["bytes_not_covered"] <= 24 << 20
    assert held["signed_by_the_eraser's_tpm_over_the_answer"] is True
    assert held["with_the_key_of_before"] is True


def test_held_of__proof_of_another_answer__says_so(tmp_path: Path) -> None:
    before, after = kits.make_quoted(Phase.BEFORE), kits.make_quoted(Phase.AFTER)
    assert after.erasure is not None
    other = replace(after.erasure.proof, answer=bytes(len(after.erasure.proof.answer)))
    after.erasure = replace(after.erasure, over=other)
    held = held_of(before.evidence(), after.evidence(), tmp_path)["proof"]
    assert held["signed_by_the_eraser's_tpm_over_the_answer"] is False


def test_held_of__no_tpm__no_proof_was_made(tmp_path: Path) -> None:
    before, after = kits.make_kit(Phase.BEFORE), kits.make_kit(Phase.AFTER)
    held = held_of(before.evidence(), after.evidence(), tmp_path)
    assert held["proof"] == {"memory_erased": "no proof was made"}

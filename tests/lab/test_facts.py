"""How facts about the PC are shown."""

from __future__ import annotations

from scripts.lab.facts import rows_of


def test_rows__every_fact_of_every_phase__has_its_place() -> None:
    facts = {
        "BEFORE": {"resets": 2, "pcrs": {"0": "aa", "4": "bb"}, "simulated": ["tpm", "power"]},
        "AFTER": {"resets": 3, "pcrs": {"0": "aa", "4": "cc"}, "simulated": []},
    }
    assert rows_of(facts) == {
        "resets": {"BEFORE": "2", "AFTER": "3"},
        "pcrs 0": {"BEFORE": "aa", "AFTER": "aa"},
        "pcrs 4": {"BEFORE": "bb", "AFTER": "cc"},
        "simulated": {"BEFORE": "tpm, power", "AFTER": ""},
    }

"""The table of attacks: a refusal for other reasons is none, and the page says what is done."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from agent.tpm_keys import SELECTION
from agent.tpm_wire import password, sized, u16, u32
from scripts.embedded.chain import ROOT
from scripts.lab.attacks.bus import QUOTE, QuoteCommand
from scripts.lab.attacks.page import PAGE, split, table
from scripts.lab.attacks.table import ATTACKS, Attack, Stage
from scripts.lab.attacks.wire import old_quote


@pytest.mark.parametrize(
    ("reasons", "met"),
    [
        (("quote: a", "pcr: 7f is wrong"), True),
        (("pcr: 7f is wrong", "quote: a"), True),
        (("quote: a",), False),
        (("quote: a", "pcr: 7f is wrong", "reset: b"), False),
        (("quote: a", "pcr: 7f is wrong", "quote: a"), False),
        (("quote: a", "pcr: 7f is wrong, or not"), False),
        ((), False),
    ],
)
def test_attack__is_met__by_exactly_its_reasons(reasons: tuple[str, ...], met: bool) -> None:
    attack = Attack("one", Stage.HONEST, old_quote, ("quote: a", "pcr: [0-9a-f]+ is wrong"))
    assert attack.is_met(reasons) is met


def test_attacks__each__is_told_and_expects_something() -> None:
    assert len({one.name for one in ATTACKS}) == len(ATTACKS)
    assert all(one.what and one.expected for one in ATTACKS)


def test_page__its_table__is_that_of_the_attacks() -> None:
    _, between, _ = split(PAGE.read_text())
    assert between == table(), "run: python -m scripts.lab.attacks.page"


def test_command__without_a_name__lists_all_of_them() -> None:
    shown = attack("--json")
    assert shown.returncode == 0
    assert [row["name"] for row in json.loads(shown.stdout)] == [one.name for one in ATTACKS]


def test_command__unknown_name__says_the_next_step() -> None:
    refused = attack("old-quote", "bribe")
    assert refused.returncode == 1
    assert refused.stderr.endswith("there is no attack 'bribe'; see: sealrun lab attack\n")


def attack(*names: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "scripts.lab.attacks", *names]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_quote_command__as_the_agent_sends_it__is_taken_apart_and_put_together() -> None:
    area = password()
    head = u32(0x80FFFFFF) + u32(len(area)) + area
    body = head + sized(b"q" * 32) + u16(0x10) + SELECTION
    command = u16(0x8002) + u32(10 + len(body), QUOTE) + body
    parsed = QuoteCommand.parse(command)
    assert parsed == QuoteCommand(head, b"q" * 32, SELECTION)
    assert parsed.encode() == command

"""What the README says about the command line is what the command line says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def commands_shown() -> list[str]:
    """Every ``sealrun …`` line in the README's code blocks, comments and arguments cut off."""
    blocks = re.findall(r"^```(?:sh|console)?\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith("sealrun ")})


def help_of(words: list[str]) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "nodeclient.cli", *words, "--help"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb", "PATH": ""},
        cwd=ROOT,
    )
    return result.stdout


def test_readme__shows_commands() -> None:
    assert len(commands_shown()) >= 5


@pytest.mark.parametrize("line", commands_shown())
def test_readme__command_shown__exists_with_its_options(line: str) -> None:
    line = line.partition("  #")[0]
    words = re.match(r"sealrun((?: [a-z]+)+)", line)
    assert words, line
    path = words[1].split()
    depth = 1 if path[0] == "demo" else 2
    text = help_of(path[:depth])
    for option in re.findall(r"(?<= )--[a-z-]+", line):
        assert option in text, f"{option} is not in the help of {path}"


def test_readme__every_group_of_the_help__is_named() -> None:
    for group in ("demo", "node", "capsule", "task", "image", "lab"):
        assert group in help_of([])
        assert f"sealrun {group}" in README

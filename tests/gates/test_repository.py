"""What may not stand in the repository, and what its files keep to."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Spelled in pieces, so that this file does not name what it looks for.
DOWNLOADS = re.compile(
    r"registry\.npm" r"js|files\.python" r"hosted|pypi\.or" r"g/(simple|packages)|deb\.debia" r"n"
)
HERE = re.compile(r"/tm" r"p/(wt|setup|brief)|/wor" r"k/(main|shared)|/opt/whee" r"ls")


def tracked() -> list[Path]:
    shown = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in shown.stdout.splitlines()]


def test_repository__tracks_no_symlink() -> None:
    """One that stands for an ignored folder replaces that folder wherever it is checked out."""
    assert [file.name for file in tracked() if file.is_symlink()] == []


@pytest.mark.parametrize("pattern", [DOWNLOADS, HERE], ids=["download address", "machine's path"])
def test_repository__text_files__name_no(pattern: re.Pattern[str]) -> None:
    found = []
    for file in tracked():
        if file.is_file() and not file.is_symlink():
            text = file.read_bytes().decode("utf-8", "ignore")
            found += [f"{file.relative_to(ROOT)}: {hit[0]}" for hit in pattern.finditer(text)]
    assert found == []


def test_repository__no_file__is_one_that_git_ignores() -> None:
    """A tracked link in the place of an ignored folder: the next checkout deletes the folder."""
    shown = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == ""


def test_lock__every_entry__is_pinned_and_hashed() -> None:
    entries = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9._-]+==\S+( ;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry)
    assert len(entries) > 100


def test_lock__direct_dependencies__are_the_ones_documented() -> None:
    wanted = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.in").read_text(), re.MULTILINE)
    locked = (ROOT / "requirements.lock").read_text()
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    for name in wanted:
        assert re.search(rf"^{re.escape(name)}==", locked, re.MULTILINE), f"{name} is not locked"
        assert f"| `{name}` |" in reasons, f"{name} has no reason in docs/dependencies.md"


def test_npm_lock__every_package__has_a_hash_and_no_address() -> None:
    packages = json.loads((ROOT / "scripts/anvil/package-lock.json").read_text())["packages"]
    installed = {name: entry for name, entry in packages.items() if name}
    assert installed
    for entry in installed.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry


def test_python_files__stay_short() -> None:
    """250 lines are the usual upper end; a table of many small types may be longer."""
    files = [file for file in tracked() if file.suffix == ".py" and file.exists()]
    product = [file for file in files if file.relative_to(ROOT).parts[0] != "tests"]
    long = {file: n for file in product if (n := len(file.read_text().splitlines())) > 450}
    command_line = [*(ROOT / "nodeclient/commands").glob("*.py"), ROOT / "nodeclient/cli.py"]
    long |= {file: n for file in command_line if (n := len(file.read_text().splitlines())) > 250}
    assert long == {}

"""Documents name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page__links__lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_architecture__files_named__exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    names = set(re.findall(r"(?:[a-z_0-9]+/)+[a-z_0-9]+\.py", text))
    assert len(names) > 20
    assert [
        n for n in names if not any((ROOT / at / n).exists() for at in ("", "nodeclient"))
    ] == []

"""The tables of `docs/attacks.md`, made of the attacks themselves: what is there was tried.

python -m tests.contracts.attacks.page          write them into the page
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.contracts.anvil import ROOT
from tests.contracts.attacks.harness import Attack

PAGE: Final = ROOT / "docs" / "attacks.md"
BEGIN: Final = "<!-- begin: python -m tests.contracts.attacks.page -->"
END: Final = "<!-- end -->"
_HEAD: Final = "| the attacker | is stopped by | with | removal | test |\n|---|---|---|---|---|\n"


def modules() -> Iterator[ModuleType]:
    """The modules of this folder that hold attacks, by name."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"{__package__}.{file.stem}")
        if any(attacks_of(module)):
            yield module


def attacks_of(module: ModuleType) -> Iterator[tuple[str, Attack]]:
    """Name and attack of each test, in the order in which they stand."""
    for name, value in vars(module).items():
        known = getattr(value, "attack", None)
        if name.startswith("test_") and isinstance(known, Attack):
            yield name, known


def tables() -> str:
    """All tables, one section for each module."""
    parts = []
    for module in modules():
        file = f"../tests/contracts/attacks/{Path(module.__file__ or '').name}"
        rows = [_row(name, file, known) for name, known in attacks_of(module)]
        title = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        parts.append(f"### {title}\n\n{_HEAD}" + "".join(rows))
    return "\n".join(parts)


def _row(name: str, file: str, known: Attack) -> str:
    removal = known.removal
    cells = (
        known.story.rstrip("."),
        removal.defence,
        f"`{known.refusal}`",
        f"`{removal.name}`",
        f"[`{name.removeprefix('test_')}`]({file})",
    )
    assert not any("|" in cell or not cell for cell in cells), f"{name}: a cell is empty or has |"
    return f"| {' | '.join(cells)} |\n"


def split(text: str) -> tuple[str, str, str]:
    """What stands before, between and after the marks of the page."""
    before, _, rest = text.partition(f"{BEGIN}\n")
    between, found, after = rest.partition(END)
    assert found, f"{PAGE.name}: its marks are missing"
    return before, between, after


def main() -> None:
    """Write the tables."""
    before, _, after = split(PAGE.read_text())
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}")


if __name__ == "__main__":
    main()

"""Attack a machine of the lab, as `sealrun lab attack` calls it.

Usage: python -m scripts.lab.attacks [NAME …|all] [--json]; without a name: what there is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from scripts.embedded.chain import ROOT
from scripts.embedded.story import Story
from scripts.lab.attacks.stages import Carried, Stages
from scripts.lab.attacks.table import ATTACKS, Attack
from scripts.lab.command import carry_out
from scripts.lab.host import check_host
from scripts.lab.rig import rig
from scripts.lab.state import LabError

FOLDER: Final = ROOT / "var" / "attack"
ALL: Final = "all"


def main() -> int:
    """0 only if every attack was refused for exactly its reasons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    wanted = parser.parse_args()
    if not wanted.names:
        show_attacks(Console(), as_json=wanted.json)
        return 0
    return carry_out("sealrun lab attack", lambda: attack(wanted))


def attack(wanted: argparse.Namespace) -> int:
    """Carry out the attacks that are wanted, and show how they went."""
    chosen = choose(wanted.names)
    check_host()
    carried = run(chosen, wanted.folder.resolve(), Story(as_json=wanted.json))
    show_results(carried, Console(), as_json=wanted.json)
    return 0 if all(one.as_expected for one in carried) else 1


def choose(names: Sequence[str]) -> list[Attack]:
    """The attacks of these names, in the order of the table. Raises LabError."""
    known = {ALL, *(one.name for one in ATTACKS)}
    for name in names:
        if name not in known:
            raise LabError(f"there is no attack {name!r}; see: sealrun lab attack")
    return [one for one in ATTACKS if one.name in names or ALL in names]


def run(chosen: Sequence[Attack], folder: Path, story: Story) -> list[Carried]:
    """Carry them out on one rig, in the order of the table, which boots least."""
    done = []
    with rig(folder, story.say) as made:
        stages = Stages(made)
        for attack in chosen:
            done.append(stages.carry_out(attack))
            verdict = "refused" if done[-1].as_expected else "NOT AS EXPECTED"
            story.say(f"{attack.name}: {verdict}")
    return done


def show_attacks(console: Console, *, as_json: bool) -> None:
    """What there is."""
    if as_json:
        rows = [{"name": a.name, "machine": a.stage.value, "what": a.what} for a in ATTACKS]
        console.print_json(data=rows)
        return
    table = Table("attack", "on", "what is done")
    for one in ATTACKS:
        table.add_row(one.name, one.stage.value, one.what)
    console.print(table)


def show_results(carried: Sequence[Carried], console: Console, *, as_json: bool) -> None:
    """Control and attack, side by side."""
    if as_json:
        sys.stdout.write(json.dumps([_plain(one) for one in carried], indent=2) + "\n")
        return
    table = Table("attack", "control", "with the attack", "reasons")
    for one in carried:
        result = "refused" if one.reasons else "ACCEPTED"
        mark = "" if one.as_expected else " (not as expected)"
        table.add_row(one.attack.name, "affirmed", result + mark, "\n".join(one.reasons))
    console.print(table)


def _plain(one: Carried) -> dict[str, object]:
    return {
        "attack": one.attack.name,
        "what": one.attack.what,
        "control": {"verdict": "AFFIRMING", "not_checked": one.not_checked},
        "reasons": one.reasons,
        "as_expected": one.as_expected,
    }


if __name__ == "__main__":
    sys.exit(main())

"""Every attack on the lab's machine is refused, for exactly its reasons.

One rig for all: the machine boots twice in full (the approved image, then the attacker's), and two
attacks hit a boot that comes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.embedded.chain import ROOT
from scripts.lab.attacks.stages import Stages
from scripts.lab.attacks.table import ATTACKS, Attack
from scripts.lab.rig import rig
from tests.lab.leftovers import leftovers, namespaces

FOLDER = ROOT / "var" / "attack-test"
# Compiles a second kernel, for six minutes of two free cores, and stalled on busy ones: only by
# `sealrun lab attack wipe-parked`. Its eraser is in tests/images/test_eraser_host.py, too.
APART = {"wipe-parked"}


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    with rig(FOLDER, lambda _: None) as made:
        memory, names = made.pc.memory, set(made.spaces.names)
        yield Stages(made)
    assert not names & namespaces()
    assert leftovers(FOLDER) == []
    assert not memory.exists()


@pytest.mark.machine
@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS if one.name not in APART], ids=lambda one: one.name
)
def test_attack__on_the_lab_machine__refused_for_exactly_its_reasons(
    stages: Stages, attack: Attack
) -> None:
    carried = stages.carry_out(attack)
    assert attack.is_met(carried.reasons), carried.reasons

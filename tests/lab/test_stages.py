"""Which machine an attack meets, how rarely one is booted, and that a control run comes first."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.lab.attacks import stages
from scripts.lab.attacks.stages import Stages
from scripts.lab.attacks.table import Attack, Stage
from scripts.lab.rig import ControlFailed

B, H, M, N, R = Stage.BREACHED, Stage.HONEST, Stage.MARKED, Stage.NONE, Stage.ROGUE


class Rig:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.pi = SimpleNamespace(power_off=lambda: self.done.append("off"))
        self.sound = True

    def boot(self) -> None:
        self.done.append("boot")

    def enrol(self) -> None:
        self.done.append("enrol")

    def control(self) -> Any:
        self.done.append("control")
        if not self.sound:
            raise ControlFailed("not affirmed")
        return SimpleNamespace(not_checked=())


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig()
    monkeypatch.setattr(stages, "keep_older_state", lambda _: made.done.append("keep"))
    monkeypatch.setattr(stages, "boot_breached", lambda _: made.done.append("breach"))
    monkeypatch.setattr(stages, "boot_rogue", lambda _: made.done.append("rogue"))
    return made


@pytest.mark.parametrize(
    ("order", "done"),
    [
        ((H, H), "keep boot enrol control act control act"),
        ((B, B), "keep boot enrol control breach control act control act"),
        # what the first marked attack leaves is there in each control after it
        ((B, M, M), "keep boot enrol control breach control act control act act"),
        ((M, M), "keep boot enrol control breach control act act"),
        ((M, B), "keep boot enrol control breach control act breach control act"),
        ((B, H), "keep boot enrol control breach control act boot control act"),
        ((M, R, R), "keep boot enrol control breach control act rogue act act"),
        ((R, B), "keep boot enrol control rogue act breach control act"),
        ((N, N), "keep boot enrol control off act off act"),
    ],
)
def test_stages__in_this_order__boot_and_control(
    rig: Rig, order: Sequence[Stage], done: str
) -> None:
    carrier = Stages(rig)  # type: ignore[arg-type]
    for stage in order:
        carrier.carry_out(_attack(rig, stage))
    assert " ".join(rig.done) == done


def test_stages__control_failed__the_attack_is_not_made_and_that_stage_is_over(rig: Rig) -> None:
    carrier = Stages(rig)  # type: ignore[arg-type]
    carrier.carry_out(_attack(rig, H))
    rig.sound = False
    for _ in range(2):
        with pytest.raises(ControlFailed):
            carrier.carry_out(_attack(rig, B))
    assert rig.done.count("breach") == 1
    assert rig.done.count("act") == 1


def _attack(rig: Rig, stage: Stage) -> Attack:
    def act(_: object) -> tuple[str, ...]:
        rig.done.append("act")
        return ("code: text",)

    return Attack("one", stage, act, ("code: text",))

"""Carries attacks out: each on the machine that it is meant for, and only after a control run."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.lab.attacks.breach import boot_breached
from scripts.lab.attacks.bus import keep_older_state
from scripts.lab.attacks.rogue import boot_rogue
from scripts.lab.attacks.table import Attack, Stage
from scripts.lab.attacks.wire import Reasons
from scripts.lab.rig import Rig


@dataclass(frozen=True, slots=True)
class Carried:
    """An attack, what the control run before it was not checked for, and why it was refused."""

    attack: Attack
    not_checked: tuple[str, ...]
    reasons: Reasons

    @property
    def as_expected(self) -> bool:
        """Refused, for exactly the reasons that the table says."""
        return self.attack.is_met(self.reasons)


_BREACHED = (Stage.BREACHED, Stage.MARKED)


class Stages:
    """Boots what an attack needs, as rarely as possible: a boot takes most of a minute."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._now: Stage | None = None
        self._broken: dict[Stage, Exception] = {}
        self._unchecked: tuple[str, ...] = ()

    def carry_out(self, attack: Attack) -> Carried:
        """Raises ControlFailed, MachineError."""
        for stage in dict.fromkeys((Stage.HONEST, attack.stage)):
            if stage in self._broken:  # a boot that failed takes minutes, and would fail again
                raise self._broken[stage]
        try:
            self._enter(attack.stage)
        except Exception as error:
            self._broken[attack.stage if self._now else Stage.HONEST] = error
            raise
        return Carried(attack, self._unchecked, attack.act(self._rig))

    def _enter(self, stage: Stage) -> None:
        """The machine of this stage runs, after a control run in this rig."""
        if self._now is None:
            keep_older_state(self._rig)
            self._rig.boot()
            self._rig.enrol()
            self._control()
            self._now = Stage.HONEST
        elif stage is Stage.HONEST:
            if self._now is not stage:
                self._rig.boot()
            self._control()
        if stage in _BREACHED:
            marked = self._now is Stage.MARKED
            if self._now not in _BREACHED or (marked and stage is Stage.BREACHED):
                boot_breached(self._rig)
            if not (marked and stage is Stage.MARKED):  # it would find what earlier attacks left
                self._control()
        if stage is Stage.ROGUE and self._now is not stage:
            boot_rogue(self._rig)
        if stage is Stage.NONE:
            self._rig.pi.power_off()
        self._now = stage

    def _control(self) -> None:
        """The same PC, TPM and verifier, and nothing attacked. Raises ControlFailed."""
        self._unchecked = self._rig.control().not_checked

"""Before it cuts the power, the Pi lets the Machine's TPM come to rest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.rpc import RpcTimeout
from nodeclient.errors import MachineError
from nodeclient.machine.netboot import NetbootMachine, NetbootSettings, firewall
from tests.machine.boots import CABLE


class Switch:
    """A power switch, and the Agent's end of the link, which note what comes in which order."""

    simulated = ()

    def __init__(self, *, heard: bool = True, answers: bool = True) -> None:
        self.heard, self.answers = heard, answers
        self.log: list[str] = []

    async def off(self) -> None:
        self.log.append("off")

    async def agent(self, _seconds: float) -> Switch:
        if not self.heard:
            raise MachineError("the Machine is not heard", "cut its power")
        return self

    async def call(self, method: str, _body: object, _seconds: float) -> None:
        self.log.append(method)
        if not self.answers:
            raise RpcTimeout("timeout", "no answer")

    async def close(self) -> None:
        self.log.append("closed")


class Slot:
    def drop(self) -> None:
        """No keys are kept."""


@pytest.mark.parametrize(
    ("heard", "answers", "log"),
    [
        (True, True, ["rest", "closed", "off"]),
        (True, False, ["rest", "closed", "off"]),
        (False, False, ["closed", "off"]),
    ],
    ids=["rests", "hangs", "is gone"],
)
async def test_power_off__whatever_the_machine_does__it_may_rest_and_goes_off(
    heard: bool, answers: bool, log: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_rules(*_: object) -> None:
        """The cable's rules are another test's."""

    async def never(_image: bytes) -> bool:
        return False

    monkeypatch.setattr(firewall, "apply", no_rules)
    switch: Any = Switch(heard=heard, answers=answers)
    settings = NetbootSettings(folder=tmp_path, cable=CABLE, image=bytes(32), images=tmp_path)
    supply: Any = SimpleNamespace(connections=tuple)
    slot: Any = Slot()
    machine = NetbootMachine(settings, supply, slot, switch, never)
    machine._link = switch
    await machine.power_off()
    assert switch.log == log

"""The Machine's desk and a root that is slow, or gone: the loop goes on, the power can be cut."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nodeclient.errors import MachineError
from nodeclient.machine.desk import MachineDesk
from nodeclient.ports import Session
from nodeclient.roots.base import RootAbsent


class Pc:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def boot(self, boot_count: int) -> Session:
        self.log.append("boot")
        return Session(b"h" * 32, b"s" * 64, b"i" * 32, b"record")

    async def resume(self, record: bytes) -> None:
        self.log.append(f"resume {record.decode()}")

    async def call(self, method: str, body: object) -> object:
        return method

    async def power_off(self) -> None:
        self.log.append("off")


class Root:
    """Seals by turning bytes round; ``gone`` is a device that was unplugged."""

    def __init__(self) -> None:
        self.gone = False
        self.opened = 0
        self.threads: set[int] = set()

    def seal(self, plain: bytes, label: str) -> bytes:
        self._ask()
        return plain[::-1]

    def unseal(self, sealed: bytes, label: str) -> bytes:
        self._ask()
        self.opened += 1
        return sealed[::-1]

    def _ask(self) -> None:
        self.threads.add(threading.get_ident())
        if self.gone:
            raise RootAbsent("root: no device", "plug it in")


def desk(pc: Pc, root: Root) -> MachineDesk:
    return MachineDesk(pc, root)  # type: ignore[arg-type]


async def test_root__is_asked_beside_the_event_loop() -> None:
    pc, root = Pc(), Root()
    session = await desk(pc, root).boot(1)
    await desk(pc, root).call(session.resume, "ask", {})
    assert threading.get_ident() not in root.threads
    assert root.opened == 1


async def test_call__many_of_one_boot__ask_the_root_once() -> None:
    pc, root = Pc(), Root()
    session = await desk(pc, root).boot(1)
    later = desk(pc, root)
    for _ in range(3):
        assert await later.call(session.resume, "ask", {}) == "ask"
    assert root.opened == 1
    await later.call(b"another", "ask", {})
    assert root.opened == 2


async def test_power_off__root_unplugged_while_a_machine_runs__its_power_is_cut() -> None:
    pc, root = Pc(), Root()
    open_desk = desk(pc, root)
    session = await open_desk.boot(1)
    root.gone = True
    await open_desk.power_off(session.resume)
    assert pc.log == ["boot", "resume record", "off"]


async def test_boot__root_unplugged_meanwhile__the_machine_does_not_run_on() -> None:
    pc, root = Pc(), Root()
    root.gone = True
    with pytest.raises(MachineError, match="no device; plug it in"):
        await desk(pc, root).boot(1)
    assert pc.log == ["boot", "off"]


async def test_boot__given_up_while_the_root_seals__the_machine_does_not_run_on() -> None:
    pc, root, begun, go_on = Pc(), Root(), threading.Event(), threading.Event()

    def seal(plain: bytes, label: str) -> bytes:
        begun.set()
        go_on.wait(60)
        return plain

    root.seal = seal  # type: ignore[method-assign]
    booting = asyncio.create_task(desk(pc, root).boot(1))
    await asyncio.to_thread(begun.wait)
    booting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await booting
    go_on.set()
    assert pc.log == ["boot", "off"]

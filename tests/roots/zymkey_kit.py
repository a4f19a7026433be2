"""The conformance suite's Zymkey: the real binding on the stand-in's library, keys elsewhere."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from nodeclient.config.root import ZymkeyRootConfig
from nodeclient.core.types import RootClass
from nodeclient.ports import Root
from nodeclient.roots.zymkey.link import ZymkeyLink
from nodeclient.roots.zymkey.root import ZymkeyRoot
from scripts.standin.control import StandIn, build_library
from tests.roots.kits import Bench, Fault

PATIENCE = 60.0  # seconds: of a busy computer; no test waits for it
KEY_OPERATIONS = ("sign", "lock", "unlock", "random")
_built = tempfile.TemporaryDirectory(prefix="standin-")


@cache
def library() -> Path:
    """Compiled once per process of the tests."""
    return build_library(Path(_built.name))


def link_to(device: StandIn, patience: float = PATIENCE) -> ZymkeyLink:
    """The real link, which does not sleep between tries of a busy device."""
    return ZymkeyLink(device.library, patience, pause=lambda _: None)


def config_of(device: StandIn, perimeter: frozenset[int] = frozenset({0, 1})) -> ZymkeyRootConfig:
    """As an operator would write it."""
    return ZymkeyRootConfig(kind="zymkey", library=device.library, perimeter=perimeter)


class ZymkeyBench:
    """One stand-in, and further ones for strangers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack, self._devices = folder, stack, 0
        self.device = self.plug_in()

    @property
    def files(self) -> Path:
        return self._folder / "root"

    def plug_in(self) -> StandIn:
        """Another device."""
        self._devices += 1
        device = StandIn(self._folder / f"device-{self._devices}", library())
        device.start()
        self._stack.callback(device.stop)
        return device

    def create(self) -> Root:
        return self._keep(
            ZymkeyRoot.create(self.files, config_of(self.device), link_to(self.device))
        )

    def load(self) -> Root:
        return self._keep(ZymkeyRoot.load(self.files, config_of(self.device), link_to(self.device)))

    def stranger(self) -> Root:
        device = self.plug_in()
        folder = self._folder / f"stranger-{self._devices}"
        return self._keep(ZymkeyRoot.create(folder, config_of(device), link_to(device)))

    def inject(self, fault: Fault) -> None:
        match fault:
            case Fault.ABSENT:
                self.device.fault(absent=True)
            case Fault.BUSY:
                self.device.fault(busy=-1)
            case Fault.LOCKED:
                self.device.fault(fail=dict.fromkeys(KEY_OPERATIONS, errno.EPERM))
            case Fault.TAMPERED:
                self.device.breach(1)
            case Fault.WRONG_SIGNATURE:
                self.device.fault(wrong_signature=True)
            case Fault.WRONG_STATE:
                raise AssertionError("a Zymkey measures nothing")

    def heal(self) -> None:
        self.device.heal()
        self.device.clear()

    def _keep(self, root: Root) -> Root:
        self._stack.callback(root.close)
        return root


class ZymkeyKit:
    name = "zymkey"
    root_class = RootClass.ZYMKEY
    simulated = True
    faults = frozenset(Fault) - {Fault.WRONG_STATE}

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Bench]:
        with ExitStack() as stack:
            yield ZymkeyBench(folder, stack)

"""What the conformance suite needs to know of each root: how to make one, and how to hurt it.

A kit names its faults; the suite runs each fault test against every kit that has it, and a kit that
lacks one says so by leaving it out of ``faults`` (a file cannot be unplugged).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from nodeclient.core.types import RootClass
from nodeclient.ports import Root
from nodeclient.roots.software import SoftwareRoot


class Fault(StrEnum):
    """What can go wrong with a root while it is open."""

    ABSENT = "absent"  # unplugged
    BUSY = "busy"  # does not take a command within its patience
    LOCKED = "locked"
    TAMPERED = "tampered"
    WRONG_SIGNATURE = "wrong signature"
    WRONG_STATE = "wrong state"  # PCRs: other software was started than when it was sealed


class Bench(Protocol):
    """One device, and the roots that are made on it."""

    def create(self) -> Root:
        """`node init`. Raises RootError."""

    def load(self) -> Root:
        """`node run`: the root that `create` made, anew from its files and its device."""

    def stranger(self) -> Root:
        """A root of the same kind on another device."""

    def inject(self, fault: Fault) -> None:
        """From now on. Only faults that the kit names."""

    def heal(self) -> None:
        """Take the fault away: plugged in again, unlocked, idle."""

    @property
    def files(self) -> Path:
        """The folder that `create` writes into."""


class Kit(Protocol):
    """A kind of root. ``faults``: those that its device can be made to have."""

    name: str
    root_class: RootClass
    simulated: bool
    faults: frozenset[Fault]

    def bench(self, folder: Path) -> AbstractContextManager[Bench]:
        """Power up a device; its power goes at the end."""


class SoftwareBench:
    """Keys in files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._strangers = folder, 0

    @property
    def files(self) -> Path:
        return self._folder / "root"

    def create(self) -> Root:
        return SoftwareRoot.create(self.files, self.files / "passphrase")

    def load(self) -> Root:
        return SoftwareRoot.load(self.files, self.files / "passphrase")

    def stranger(self) -> Root:
        self._strangers += 1
        folder = self._folder / f"stranger-{self._strangers}"
        return SoftwareRoot.create(folder, folder / "passphrase")

    def inject(self, fault: Fault) -> None:
        raise AssertionError(f"a file has no fault {fault}")

    def heal(self) -> None:
        """Nothing was hurt."""


class SoftwareKit:
    name = "software"
    root_class = RootClass.SOFTWARE
    simulated = True
    faults: frozenset[Fault] = frozenset()

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Bench]:
        yield SoftwareBench(folder)


def _tpm2() -> Kit:
    from tests.roots.tpm2_kit import Tpm2Kit

    return Tpm2Kit()


def _zymkey() -> Kit:
    from tests.roots.zymkey_kit import ZymkeyKit

    return ZymkeyKit()


# The table: helper modules add their kits here. Called when the suite starts, not when it is read.
KITS: dict[str, Callable[[], Kit]] = {
    "software": SoftwareKit,
    "tpm2": _tpm2,
    "zymkey": _zymkey,
}

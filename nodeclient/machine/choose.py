"""Which Machine a Node's configuration names: the daemon and `sealrun node enrol` ask here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nodeclient.config import Config
from nodeclient.machine.local import LocalMachine, LocalSettings
from nodeclient.machine.supply import Supply
from nodeclient.ports import Machine


def choose_machine(
    config: Config,
    supply: Supply,
    is_approved: Callable[[bytes], Awaitable[bool]],  # noqa: ARG001 (of a boot image)
) -> Machine:
    """The adapter of `[machine] kind`. Nothing is started yet."""
    return LocalMachine(LocalSettings(folder=config.folder / "machine"), supply)

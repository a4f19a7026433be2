"""Which Machine a Node's configuration names: the daemon and `sealrun node enrol` ask here."""

from __future__ import annotations

from nodeclient.config import Config
from nodeclient.machine.local import ImageFinder, LocalMachine, LocalSettings
from nodeclient.ports import BlockGetter, BlockPutter, Machine


def choose_machine(
    config: Config, get_block: BlockGetter, put_block: BlockPutter, find_image: ImageFinder
) -> Machine:
    """The adapter of `[machine] kind`. Nothing is started yet."""
    settings = LocalSettings(folder=config.folder / "machine")
    return LocalMachine(settings, get_block, put_block, find_image)

"""Which images this Node uses or keeps: those that the chain is asked about."""

from __future__ import annotations

import re
from pathlib import Path

from nodeclient.config.node import Config, NetbootMachineConfig
from nodeclient.core.case import Role
from nodeclient.core.health import GuardPart, Use
from nodeclient.images.picture import PICTURE, Picture, read_picture
from nodeclient.machine.measure import measure_agent

MOST_RUNTIME = 16  # the newest: each costs a question to the chain whenever a picture is gathered
_ARCHIVE = re.compile(r"([0-9a-f]{64})\.tar")
Held = tuple[tuple[Use, bytes], ...]


def held_images(config: Config) -> Held:
    """What the Machine boots, if this Node's role has one, and the runtime images on disk.

    Images of running services join them where a picture of the guard is at hand (``running``).
    """
    machine = config.machine
    found: list[tuple[Use, bytes]] = []
    if Role.EXECUTOR in config.node.roles:
        if isinstance(machine, NetbootMachineConfig):
            found.append((Use.BOOT, bytes.fromhex(machine.boot_image)))
            if machine.eraser:
                found.append((Use.ERASER, bytes.fromhex(machine.eraser)))
        else:
            found.append((Use.BOOT, measure_agent()))
    return (*found, *runtime_images(config.path(machine.images)))


def running(picture: Picture) -> Held:
    """Images of the containers that the guard of the services saw last."""
    return tuple((Use.SERVICE, image) for image in sorted({each for _, each in picture.services}))


def guard_part(config: Config, picture: Picture) -> GuardPart | None:
    """How far the guard of the services has come; None where none is configured."""
    return None if config.services.guard == "none" else GuardPart(picture.block)


def guard_picture(config: Config) -> Picture:
    """What the guard left in the folder; empty where none is configured."""
    if config.services.guard == "none":
        return Picture()
    return read_picture(config.folder / PICTURE)


def runtime_images(folder: Path) -> Held:
    """The newest archives, by the IDs that their names say."""
    named = [
        (path, found[1])
        for path in _entries(folder)
        if (found := _ARCHIVE.fullmatch(path.name)) is not None
    ]
    newest = sorted(named, key=lambda each: _changed(each[0]), reverse=True)[:MOST_RUNTIME]
    return tuple((Use.RUNTIME, bytes.fromhex(image)) for _, image in newest)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it went just now
        return 0.0

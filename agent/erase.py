"""Brings the Machine back to what it was before the task, and looks whether that worked."""

from __future__ import annotations

from dataclasses import dataclass

from agent.engine import Engine
from agent.scratch import Scratch


@dataclass(frozen=True, slots=True)
class Erased:
    """How much of each kind was removed, and for each check whether nothing was left."""

    removed: dict[str, int]
    checked: dict[str, bool]


def erase_task(engine: Engine, scratch: Scratch, brought: bytes | None) -> Erased:
    """Remove containers, disks with their keys and the image that this Machine brought; check.

    `brought` is the ID (32 bytes) of that image. One that another Machine of the same engine uses
    stays, and the transcript says so: only a simulated Machine shares its engine. Raises
    EngineFailed or ScratchError if something cannot be removed: no transcript then.
    """
    containers = engine.remove_own()
    wiped = scratch.erase()
    removed = {"containers": containers, "files": wiped.files, "bytes": wiped.bytes}
    checked = {"containers": not engine.own(), "scratch": scratch.gone}
    if scratch.sealed:
        removed["scratch_key"] = wiped.keys
        checked["scratch_key"] = scratch.keys_gone
    if brought is not None:
        gone = engine.remove_image(brought)
        in_use = not gone and engine.used_by_others(brought)
        removed |= {"images": int(gone), "images_in_use": int(in_use)}
        checked["images"] = gone or in_use
    return Erased(removed, checked)

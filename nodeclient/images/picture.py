"""What the guard of the services saw last, as a file in the node's folder.

The guard may be another process than the daemon: where the daemon runs in a container itself, it
must not be the one that watches over containers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nodeclient.files import replace_file

PICTURE = "services.json"
_MOST = 64 << 10  # bytes; 32 services have some 4 KB


@dataclass(frozen=True, slots=True)
class Picture:
    """What ran, and is approved, when the services were last held against `block`. `stops`: how
    many were ever stopped."""

    block: int = 0
    services: tuple[tuple[str, bytes], ...] = ()
    stops: int = 0


def write_picture(path: Path, picture: Picture) -> None:
    """Replace the file in one step. Raises OSError."""
    services = [[name, image.hex()] for name, image in picture.services]
    shown = {"block": picture.block, "services": services, "stops": picture.stops}
    replace_file(path, json.dumps(shown).encode())


def read_picture(path: Path) -> Picture:
    """The last picture; an empty one where no guard has written any, or not what we write."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST))
        services = tuple((str(name), bytes.fromhex(image)) for name, image in found["services"])
        return Picture(int(found["block"]), services, int(found["stops"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Picture()

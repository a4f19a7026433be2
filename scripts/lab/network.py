"""The lab's network: embedded nodes that judge, and one Pi with a PC that executes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeclient.core.case import Role
from scripts.embedded.network import Network, Place, Say
from scripts.embedded.play import PEOPLE
from scripts.lab.namespaces import HUB_ADDRESS, Namespaces

PI: Final = "pi"
MEMBERS: Final = ("member-1", "member-2", "member-3", "member-4")
NODES: Final = (*PEOPLE, PI, *MEMBERS)
BLOCK_SECONDS: Final = 0.5


class LabNetwork(Network):
    """As `Network`; every node has a namespace of its own, and only the Pi executes."""

    def __init__(self, folder: Path, spaces: Namespaces, say: Say) -> None:
        sites = {name: spaces.site(name) for name in NODES}
        places = {name: Place(sites[name], (Role.MEMBER,)) for name in MEMBERS}
        places |= {name: Place(sites[name]) for name in PEOPLE}
        places[PI] = Place(sites[PI], (Role.EXECUTOR,))
        super().__init__(
            folder,
            PEOPLE,
            (PI, *MEMBERS),
            say=say,
            block_seconds=BLOCK_SECONDS,
            places=places,
            host=HUB_ADDRESS,
        )

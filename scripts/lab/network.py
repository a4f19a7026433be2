"""The lab's network: embedded nodes that judge, and one Pi with a PC that executes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

from agent.formats.evidence import TPM_QUOTED
from nodeclient.core.case import Role
from nodeclient.images.boot.keep import BuiltBoot, build_boot
from nodeclient.images.build import build_runtime
from nodeclient.images.eraser.build import build_eraser
from nodeclient.machine.lab import Qemu, QemuSettings
from nodeclient.machine.lab.qemu import SIMULATED
from scripts.embedded.chain import ROOT
from scripts.embedded.network import Network, Place, Say
from scripts.embedded.node import NodeProcess
from scripts.embedded.play import PEOPLE
from scripts.lab.namespaces import CABLE, HUB_ADDRESS, SOCKET, Namespaces

PI: Final = "pi"
MEMBERS: Final = ("member-1", "member-2", "member-3", "member-4")
NODES: Final = (*PEOPLE, PI, *MEMBERS)
MAC: Final = "52:54:00:77:00:01"
# Deadlines count blocks, and an emulated PC may take minutes to boot on a busy host.
BLOCK_SECONDS: Final = 1.0
# A PC of a real maker stays silent for no longer than its Pi takes to start again; an emulated one
# that shares two cores with eight nodes may.
SILENCE_SECONDS: Final = 120.0


class LabNetwork(Network):
    """As `Network`; every node has a namespace of its own, and only the Pi executes."""

    vouch = TPM_QUOTED
    simulated = ("root", *SIMULATED)

    def __init__(self, folder: Path, spaces: Namespaces, say: Say) -> None:
        places = {name: Place(spaces.site(name)) for name in PEOPLE}
        places |= {name: Place(spaces.site(name), (Role.MEMBER,)) for name in MEMBERS}
        places[PI] = Place(spaces.site(PI), (Role.EXECUTOR,))
        super().__init__(
            folder,
            PEOPLE,
            (PI, *MEMBERS),
            say=say,
            block_seconds=BLOCK_SECONDS,
            machine={"question_rate": 1.0, "silence_seconds": SILENCE_SECONDS},
            places=places,
            host=HUB_ADDRESS,
        )
        self.pc = pc_in(folder)
        self.boot_image: BuiltBoot
        self.eraser: BuiltBoot

    def build(self) -> None:
        """All images; no engine, the PC brings its own."""
        self.image = build_runtime(ROOT / ".build" / "images", self.say)
        images = ROOT / ".build" / "images" / "boot"
        self.boot_image = build_boot(images, self.say)
        self.eraser = build_eraser(images, self.say)

    def boot_images(self) -> tuple[bytes, ...]:
        """The two that are built here: what runs tasks, and what erases after them."""
        return (self.boot_image.image_id, self.eraser.image_id)

    def prepare(self) -> None:
        """As `Network`, and a PC with a TPM that nobody ever used, on the Pi's cable."""
        self.pc.prepare()
        self.machines[PI] = {
            "kind": "netboot",
            "interface": CABLE,
            "mac": MAC,
            "boot_image": self.boot_image.image_id.hex(),
            "eraser": self.eraser.image_id.hex(),
            "power": {"kind": "qemu", "tap": SOCKET, "folder": str(pc_folder(self.folder))},
        }
        super().prepare()

    def equip(self, node: NodeProcess) -> None:
        """Images and the TPM's maker for all; the Pi enrols its PC, which boots for it."""
        super().equip(node)
        for built in (self.boot_image, self.eraser):
            images = node.folder / "images" / "boot" / built.image_id.hex()
            images.mkdir(parents=True)
            for file in built.path.iterdir():
                os.link(file, images / file.name)  # a hundred megabytes that nobody changes
        makers = node.folder / "ek-roots"
        makers.mkdir()
        root, issuer = self.pc.tpm.certificates
        shutil.copyfile(root, makers / root.name)
        if node.name == PI:
            self.say("the Pi boots its PC, to enrol its TPM")
            made: Any = node.cli(
                "node", "enrol", "--node", str(node.folder), "--chain", str(issuer)
            )
            self.say(f"enrolled: attestation key {made['attestation_key']}")


def pc_in(folder: Path) -> Qemu:
    """The PC of the lab whose network is in ``folder``."""
    return Qemu(QemuSettings(folder=pc_folder(folder), tap=SOCKET, mac=MAC))


def pc_folder(folder: Path) -> Path:
    """Beside the network's folder: a PC is nobody's file."""
    return folder.parent / "pc"

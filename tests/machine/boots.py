"""What the tests of a network boot need: an image of random bytes, a switch that starts a PC."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from agent.formats.bootimage import EFI, KERNEL_MAP, MANIFEST, ROOT, BootManifest
from nodeclient.core.images import ImageKind
from nodeclient.core.incidents import Report
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.incidents import log_only
from nodeclient.machine.netboot import Cable, NetbootMachine, NetbootSettings, Power
from tests.machine.support import Pi
from tests.machine.wire import MAC, Wire

CABLE = Cable("cable", MAC)
REPOSITORY = Path(__file__).parents[2]


def make_image(images: Path) -> bytes:
    """An image folder with right hashes; its ID."""
    efi, root = secrets.token_bytes(700_001), secrets.token_bytes(1_300_003)
    digest = hashlib.sha256(root).digest()
    manifest = replace(rootless(efi), root_sha256=digest, root_size=len(root))
    parts = {EFI: efi, ROOT: root, KERNEL_MAP: b""}
    return place(images, replace(manifest, kernel_map_sha256=bytes(32)), parts)


def make_eraser(images: Path) -> bytes:
    """An eraser's folder: no root; its ID."""
    efi = secrets.token_bytes(300_001)
    return place(images, rootless(efi), {EFI: efi})


def rootless(efi: bytes) -> BootManifest:
    """The manifest of an image that is nothing but this program."""
    return BootManifest(
        efi_sha256=hashlib.sha256(efi).digest(),
        efi_size=len(efi),
        root_sha256=b"",
        root_size=0,
        kernel_map_sha256=b"",
        command_line="quiet",
        agent=bytes(32),
        pcr4=(bytes(32),),
        pcr9=(bytes(32),),
        pcr11=(bytes(32),),
        packages=bytes(32),
    )


def place(images: Path, manifest: BootManifest, parts: dict[str, bytes]) -> bytes:
    """Write an image's folder; its ID."""
    folder = images / manifest.image_id.hex()
    folder.mkdir(parents=True)
    for name, content in (parts | {MANIFEST: manifest.encode()}).items():
        (folder / name).write_bytes(content)
    return manifest.image_id


class FakePower:
    """Starts `tests.machine.fake_pc` in the PC's namespace, and kills it and its Agent."""

    simulated = ("machine", "power")

    def __init__(self, wire: Wire, image: Path, times: int = 1) -> None:
        self._wire, self._image, self._times = wire, image, times
        self._process: subprocess.Popen[str] | None = None
        self.log: list[str] = []

    async def on(self) -> None:
        self.log.append("on")
        self._start()

    def _start(self) -> None:
        hashes = [
            hashlib.sha256((self._image / name).read_bytes()).hexdigest() for name in (EFI, ROOT)
        ]
        command = [sys.executable, "-B", "-m", "tests.machine.fake_pc", *hashes, str(self._times)]
        self._process = subprocess.Popen(
            self._wire.on_pc(*command),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def off(self) -> None:
        self.log.append("off")
        self._wire.kill_pc()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    async def reset(self) -> None:
        await self.off()
        await self.on()

    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """All that the PC wrote, once it is off."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.read()


def netboot(
    pi: Pi,
    image: bytes,
    power: Power,
    *,
    approved: ImageKind | None = ImageKind.BOOT,
    lease: int = 60,
    report: Report = log_only,
) -> NetbootMachine:
    """A NetbootMachine over this Pi's blocks; the "PC" uses this host's Docker."""

    async def is_approved(asked: bytes, kind: ImageKind) -> bool:
        return (asked, kind) == (image, approved)

    settings = NetbootSettings(
        folder=pi.folder,
        cable=CABLE,
        image=image,
        images=pi.folder / "boot-images",
        lease_seconds=lease,
        boot_seconds=60.0,
        scratch=pi.folder / "scratch",
        docker=DEFAULT_SOCKET,
        proxy=pi.rules,
    )
    return NetbootMachine(settings, pi.supply, pi.slot, power, is_approved, report=report)

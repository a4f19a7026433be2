"""The boot images that this Node has copies of, to hold other Machines' boots against.

Each is checked against its ID once and then kept open: hashing 130 MB for every question would cost
more than everything else together. Whether one is approved is the chain's business.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.formats.bootimage import ROOT, BootManifest
from agent.formats.ranges import Answer
from nodeclient.core.evidence_policy import BootReference, EraserReference
from nodeclient.images.errors import ImageError

log = logging.getLogger(__name__)
KEPT = 2  # images; of each the kernel's text is held, some 20 MB


class BootFiles(Protocol):
    """The files of one image, every byte of them checked against its ID."""

    @property
    def manifest(self) -> BootManifest: ...
    def kernel(self, nonce: bytes) -> tuple[Answer, ...]:
        """(offset, length, sha256(nonce ‖ bytes)) as ``agent.formats.ranges.answers``."""

    def root(self, nonce: bytes) -> tuple[Answer, ...]:
        """The same over the root file system."""


class BootImages:
    """``folder`` holds one folder for each image, named by its ID in hex; ``load`` checks one and
    raises ImageError, ``load_eraser`` one of an eraser."""

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path, bytes], BootFiles],
        load_eraser: Callable[[Path, bytes], BootManifest],
    ) -> None:
        self._folder, self._load, self._load_eraser = folder, load, load_eraser
        self._erasers: dict[bytes, EraserReference] = {}
        self._useless: set[bytes] = set()  # erasers that were complained of
        self._kept: OrderedDict[bytes, BootFiles] = OrderedDict()
        self._lock = asyncio.Lock()

    async def warm(self) -> None:
        """Check the newest images ahead: it takes seconds, and a first question would wait."""
        for image in await asyncio.to_thread(self._newest):
            async with self._lock:
                await asyncio.to_thread(self._open, image)

    async def reference(self, image: bytes, nonce: bytes) -> BootReference | None:
        """What a boot of ``image`` must show, asked over ``nonce``; None without a sound copy."""
        async with self._lock:  # two questions at once shall not load the same image twice
            files = await asyncio.to_thread(self._open, image)
        if files is None:
            return None
        manifest = files.manifest
        return BootReference(
            image=image,
            pcr4=manifest.pcr4,
            pcr9=manifest.pcr9,
            pcr11=manifest.pcr11,
            command_line=manifest.command_line,
            agent=manifest.agent,
            kernel=await asyncio.to_thread(files.kernel, nonce),
            root=await asyncio.to_thread(files.root, nonce),
            programs=manifest.programs,
        )

    async def eraser(self, image: bytes) -> EraserReference | None:
        """What a boot of the eraser ``image`` must show; None without a sound copy.

        A peer's proof names it: what is not here is not worth a line of the log, however often and
        under however many names it is asked for; a copy that is of no use is named once.
        """
        if image not in self._erasers:
            path = self._folder / image.hex()
            if not path.is_dir():
                return None
            try:
                found = await asyncio.to_thread(self._load_eraser, path, image)
            except (ImageError, OSError) as error:
                if image not in self._useless:
                    log.warning("eraser image %s is of no use: %s", image.hex(), error)
                self._useless.add(image)
                return None
            # Four hashes each, and only of sound copies: whoever asks cannot make this grow.
            self._erasers[image] = EraserReference(image, found.pcr4, found.pcr9, found.pcr11)
        return self._erasers[image]

    def _newest(self) -> list[bytes]:
        try:
            folders = sorted(self._folder.glob("*/"), key=lambda path: path.stat().st_mtime)
        except OSError:  # one went just now: then it is looked for when it is asked for
            return []
        rooted = [path for path in folders if (path / ROOT).is_file()]  # an eraser has none
        named = [path.name for path in rooted if re.fullmatch(r"[0-9a-f]{64}", path.name)]
        return [bytes.fromhex(name) for name in named[-KEPT:]]

    def _open(self, image: bytes) -> BootFiles | None:
        files = self._kept.pop(image, None)
        path = self._folder / image.hex()
        if files is None and path.is_dir():
            try:
                files = self._load(path, image)
            except (ImageError, OSError) as error:
                log.warning("boot image %s is of no use: %s", image.hex(), error)
        if files is None:
            return None
        self._kept[image] = files
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return files

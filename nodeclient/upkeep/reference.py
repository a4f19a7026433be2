"""Reference values of this Node: what approved parts measure, taken from its own copies.

A claim about a Machine is only checked against what the asker can compute itself: the boot image
that the Evidence names, if this Node has a copy of it, byte ranges chosen by the nonce, and what
``ImageRegistry`` approves. In the embedded profile the boot image is this Node's own Agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.formats.cbor import FormatError
from agent.formats.erasure import ErasureProof
from agent.formats.evidence import Evidence
from agent.formats.measure import answer_ranges
from nodeclient.core import claims
from nodeclient.core.evidence_policy import (
    BootReference,
    EraserReference,
    RangeAnswer,
    ReferenceValues,
)
from nodeclient.core.images import ImageKind
from nodeclient.machine.measure import agent_folder, measure_agent
from nodeclient.ports import ChainReader
from nodeclient.upkeep.bootimages import BootImages


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an operator accepts of others' PCs beside the boot image: SHA-256 digests, 32 bytes.

    ``drivers`` that cards bring: none by default. Of ``firmware`` and ``files`` an empty set says
    that nothing is known, and the appraisal that they were not checked.
    """

    drivers: frozenset[bytes] = frozenset()
    firmware: frozenset[bytes] = frozenset()
    files: frozenset[bytes] = frozenset()


class Reference:
    """The Agent's tree, the images on this Node, the operator's choice, the chain's approvals."""

    def __init__(
        self,
        chain: ChainReader,
        images: Path,
        boot_images: BootImages,
        accepted: Accepted = Accepted(),
    ) -> None:
        self._chain, self._accepted = chain, accepted
        self._images = images
        self._boot_images = boot_images
        self._agent = measure_agent()

    @property
    def agent(self) -> bytes:
        """Digest of this Node's Agent: the BOOT image of the embedded profile."""
        return self._agent

    def image_path(self, image: bytes) -> Path | None:
        """The archive of a runtime image on this Node."""
        path = self._images / f"{image.hex()}.tar"
        return path if path.is_file() else None

    def only_image(self) -> bytes | None:
        """The one runtime image on this Node; None when there is none or a choice."""
        names = [path.stem for path in self._images.glob("*.tar") if len(path.stem) == 64]
        return bytes.fromhex(names[0]) if len(names) == 1 else None

    async def warm(self) -> None:
        """Ready the copies, so that a first question waits no longer than any other."""
        await self._boot_images.warm()

    async def values(self, runtime_image: bytes, evidence: Evidence) -> ReferenceValues:
        """What ``evidence`` is held against. Approvals are asked for afresh."""
        image = named_image(evidence)
        boot: BootReference | None = None
        if image and image != self._agent:
            boot = await self._boot_images.reference(image, evidence.nonce)
        # Without a copy nothing can be compared, so an image that is not here is not approved here.
        known = image == self._agent or boot is not None
        approved = known and await self._chain.is_approved(image, ImageKind.BOOT)
        eraser = await self._eraser(evidence)
        runtime_ok = await self._chain.is_approved(runtime_image, ImageKind.RUNTIME)
        agent = self._agent if boot is None else boot.agent
        return ReferenceValues(
            boot_images=frozenset({image} if approved else ()),
            agents=frozenset({agent}),
            runtime_images=frozenset({runtime_image} if runtime_ok else ()),
            # Of another release's Agent there is no copy here: the appraisal says so and refuses.
            ranges=self._ranges(evidence.nonce) if agent == self._agent else (),
            executables=None if boot is None else frozenset(boot.programs),
            boot=boot,
            eraser=eraser,
            drivers=self._accepted.drivers,
            firmware=self._accepted.firmware or None,
            files=self._accepted.files or None,
        )

    async def _eraser(self, evidence: Evidence) -> EraserReference | None:
        """The eraser that an erasure proof names, if a copy of it is here and it is approved."""
        try:
            image = ErasureProof.decode(claims.proof(evidence)).image
        except FormatError:
            return None
        known = await self._boot_images.eraser(image)
        if known is None or not await self._chain.is_approved(image, ImageKind.BOOT):
            return None
        return known

    def _ranges(self, nonce: bytes) -> tuple[RangeAnswer, ...]:
        ranges: list[RangeAnswer] = []
        for answer in answer_ranges(nonce, agent_folder()):
            path, offset, length, digest = answer
            assert isinstance(path, str)
            assert isinstance(offset, int)
            assert isinstance(length, int)
            assert isinstance(digest, bytes)
            ranges.append((path, offset, length, digest))
        return tuple(ranges)


def named_image(evidence: Evidence) -> bytes:
    """The boot image that Evidence names; no bytes where it names none, which nothing approves."""
    try:
        return claims.boot(evidence).image
    except FormatError:
        return b""

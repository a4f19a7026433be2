"""Reference values of this Node: what approved parts measure, taken from its own copies.

A claim about a Machine is only checked against what the asker can compute itself: the digest of the
Agent that this Node would boot, byte ranges of it chosen by the nonce, and what ``ImageRegistry``
approves.
"""

from __future__ import annotations

from pathlib import Path

from agent.formats.measure import answer_ranges
from nodeclient.core.evidence_policy import RangeAnswer, ReferenceValues
from nodeclient.machine.measure import agent_folder, measure_agent
from nodeclient.ports import ChainReader


class Reference:
    """The Agent's tree, the runtime images on this Node, and the chain's approvals."""

    def __init__(self, chain: ChainReader, images: Path) -> None:
        self._chain = chain
        self._images = images
        self._agent = measure_agent()

    @property
    def agent(self) -> bytes:
        """Digest of the Agent that this Node boots: the BOOT image of the embedded profile."""
        return self._agent

    def image_path(self, image: bytes) -> Path | None:
        """The archive of a runtime image on this Node."""
        path = self._images / f"{image.hex()}.tar"
        return path if path.is_file() else None

    def only_image(self) -> bytes | None:
        """The one runtime image on this Node; None when there is none or a choice."""
        names = [path.stem for path in self._images.glob("*.tar") if len(path.stem) == 64]
        return bytes.fromhex(names[0]) if len(names) == 1 else None

    async def values(self, runtime_image: bytes, nonce: bytes) -> ReferenceValues:
        """What Evidence over ``nonce`` is held against. Approvals are asked for afresh."""
        agent_ok = await self._chain.is_approved(self._agent)
        runtime_ok = await self._chain.is_approved(runtime_image)
        ranges: list[RangeAnswer] = []
        for answer in answer_ranges(nonce, agent_folder()):
            path, offset, length, digest = answer
            assert isinstance(path, str)
            assert isinstance(offset, int)
            assert isinstance(length, int)
            assert isinstance(digest, bytes)
            ranges.append((path, offset, length, digest))
        return ReferenceValues(
            boot_images=frozenset({self._agent} if agent_ok else ()),
            agents=frozenset({self._agent}),
            runtime_images=frozenset({runtime_image} if runtime_ok else ()),
            ranges=tuple(ranges),
        )

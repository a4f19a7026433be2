"""`ImageRegistry`: which images a Machine may run."""

from __future__ import annotations

from nodeclient.chain.view import Contract
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.ports import Order

__all__ = ["ImageKind", "ImageRecord", "ImageRegistry", "approve", "report_load", "revoke"]


class ImageRegistry(Contract):
    """Views of `ImageRegistry`."""

    NAME = "ImageRegistry"

    async def is_approved(self, image: bytes, kind: ImageKind) -> bool:
        """Whether the image may run now as `kind`: approved, timelock over, inside its window.

        The contract's view leaves the kind to us; it never changes, so two views are as one.
        """
        record = await self.image(image)
        if record is None or record.kind is not kind:
            return False
        return bool(await self.view("is_approved", image))

    async def image(self, image: bytes) -> ImageRecord | None:
        """The record of an image; None when nobody ever approved it."""
        kind, *rest = await self.view("image", image)
        return ImageRecord(ImageKind(kind), *rest) if kind else None

    async def timelock(self) -> int:
        """Seconds between approval and effect."""
        return int(await self.view("timelock"))


def approve(
    key: str,
    image: bytes,
    kind: ImageKind,
    source_commit: bytes,
    not_before: int,
    not_after: int,
) -> Order:
    """Approve an image (owner only). `source_commit`: 20 bytes; times in seconds since 1970."""
    args = (image, int(kind), source_commit, not_before, not_after)
    return Order(key, ImageRegistry.NAME, "approve", args)


def revoke(key: str, image: bytes) -> Order:
    """Revoke an image at once (owner only)."""
    return Order(key, ImageRegistry.NAME, "revoke", (image,))


def report_load(key: str, image: bytes) -> Order:
    """Say as a Node that its Machine loaded a BOOT or SERVICE image."""
    return Order(key, ImageRegistry.NAME, "report_load", (image,))

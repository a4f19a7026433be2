"""An image tar as raw blocks with CIDs, and the one block that lists them.

The list's own CID names the whole tar. Nothing here makes an image acceptable: that is what its ID,
checked over every byte, and the chain decide. The list only says where the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.cid import cid_from_digest, cid_of, digest_of
from agent.formats.shape import as_bytes, as_int, as_list, as_map
from nodeclient.images.errors import ImageError
from nodeclient.images.verify import verify_image

BLOCK = 1 << 20  # bytes: the largest that a block store takes
MAX_BLOCKS = 8192  # 8 GiB, what a Machine takes at most; the list then has 280 KB
VERSION = 1
_KEYS = ("version", "image", "size", "blocks")

Put = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class ImageParts:
    """The tar of image `image` (ID, 32 bytes): `size` bytes in `blocks` (CIDs), all but the last of
    them `BLOCK` bytes long."""

    image: bytes
    size: int
    blocks: tuple[str, ...]

    def encode(self) -> bytes:
        """Canonical CBOR: one block. Raises FormatError for what `decode` would refuse."""
        digests = [digest_of(cid) for cid in self.blocks]
        fields = (VERSION, self.image, self.size, digests)
        encoded = cbor.encode(dict(zip(_KEYS, fields, strict=True)))
        if ImageParts.decode(encoded) != self:
            raise FormatError("image list: fields do not survive; split the tar anew")
        return encoded

    @staticmethod
    def decode(data: bytes) -> ImageParts:
        """Parse a list. Raises FormatError."""
        fields = as_map(cbor.decode(data, BLOCK, MAX_BLOCKS + 16), _KEYS, "image list")
        as_int(fields["version"], VERSION, VERSION, "image list version")
        size = as_int(fields["size"], 1, MAX_BLOCKS * BLOCK, "image list size")
        count = -(-size // BLOCK)
        digests = as_list(fields["blocks"], count, count, "image list blocks")
        return ImageParts(
            as_bytes(fields["image"], 32, "image list image"),
            size,
            tuple(cid_from_digest(as_bytes(each, 32, "image list block")) for each in digests),
        )

    def length(self, index: int) -> int:
        """How many bytes block `index` has."""
        return min(BLOCK, self.size - index * BLOCK)


def publish(path: Path, put: Put) -> tuple[str, bytes]:
    """Put the image tar at `path` into a store, its list last; return (CID of the list, image ID).

    Raises ImageError if the tar does not verify, and what `put` raises.
    """
    image = verify_image(path)
    try:
        with path.open("rb") as source:
            parts = _split(source, image, put)
    except OSError as error:
        raise ImageError(f"{path.name}: {error.strerror}; check the disk") from error
    encoded = parts.encode()
    cid = cid_of(encoded)
    put(cid, encoded)
    return cid, image


def _split(source: BinaryIO, image: bytes, put: Put) -> ImageParts:
    size = 0
    blocks: list[str] = []
    while block := source.read(BLOCK):
        size += len(block)
        if len(blocks) == MAX_BLOCKS:
            raise ImageError("the image is larger than a Machine takes; build a smaller one")
        blocks.append(cid_of(block))
        put(blocks[-1], block)
    return ImageParts(image, size, tuple(blocks))

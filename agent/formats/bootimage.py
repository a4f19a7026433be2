"""The boot image's manifest and kernel map: what a verifier must know of a Machine's boot.

A boot image is a folder: `manifest.cbor`, `boot.efi`, `root.squashfs`, `kernel.map`; the eraser is
one without the last two. Its ID is the SHA-256 of the manifest, so that one approved hash fixes
every byte that the Machine runs and every value that its TPM must report. All of them are computed
from the files; none is taken from a boot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text

VERSION = 1
MANIFEST, EFI, ROOT, KERNEL_MAP = "manifest.cbor", "boot.efi", "root.squashfs", "kernel.map"
MAX_MANIFEST = 16 * 1024
MAX_KERNEL_MAP = 4 << 20
MAX_IMAGE = 1 << 30  # bytes of boot.efi or root.squashfs: a Machine keeps both in RAM
MAX_COMMAND_LINE = 2048  # x86's COMMAND_LINE_SIZE, with its NUL
MAX_INTERVALS = 1 << 17
MAX_KERNEL = 256 << 20  # bytes from _text to the end of the kernel image
_MAX_EVENTS = 32
MAX_PROGRAMS = 64
_EVENTS = ("pcr4", "pcr9", "pcr11")
_KEYS = (
    *("version", "efi_sha256", "efi_size", "root_sha256", "root_size", "kernel_map_sha256"),
    *("command_line", "agent", *_EVENTS, "packages", "programs"),
)

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BootManifest:
    """Reference values of one boot image. Digests are 32 bytes of SHA-256, sizes bytes.

    Without a root (the eraser) its digest and the kernel map's are empty, its size 0. agent:
    `measure_tree` of the Agent in the root, or of the eraser's sources. pcr4: Authenticode digests
    of the EFI applications that firmware and stub load, in order. pcr9: of command line and
    initramfs as Linux' own EFI stub measures them. pcr11: of the events that systemd-stub measures,
    in order. packages: of the lock that the image was built from. programs: of each file of the
    root that can be started, but the loader, which could start any other.
    """

    efi_sha256: bytes
    efi_size: int
    root_sha256: bytes
    root_size: int
    kernel_map_sha256: bytes
    command_line: str
    agent: bytes
    pcr4: tuple[bytes, ...]
    pcr9: tuple[bytes, ...]
    pcr11: tuple[bytes, ...]
    packages: bytes
    programs: tuple[bytes, ...] = ()
    version: int = VERSION

    @property
    def has_root(self) -> bool:
        """Whether an Agent's root follows `boot.efi`; the eraser has none."""
        return bool(self.root_sha256)

    @property
    def image_id(self) -> bytes:
        """What is approved on chain: SHA-256 (32 bytes) of `encode()`."""
        return sha256(self.encode())

    def encode(self) -> bytes:
        """Bytes of `manifest.cbor`."""
        body: dict[str, object] = {name: getattr(self, name) for name in _KEYS}
        lists = (*_EVENTS, "programs")
        return cbor.encode(body | {name: list(getattr(self, name)) for name in lists})

    @classmethod
    def decode(cls, data: bytes) -> BootManifest:
        """Parse `manifest.cbor`. Raises FormatError."""
        body = as_map(cbor.decode(data, MAX_MANIFEST), _KEYS, "boot manifest")
        # All three parts of a root, or none: half a root is a mistake.
        size = 0 if body["root_sha256"] == b"" else 32
        return cls(
            version=as_int(body["version"], VERSION, VERSION, "manifest version"),
            efi_sha256=as_bytes(body["efi_sha256"], 32, "boot.efi digest"),
            efi_size=as_int(body["efi_size"], 1, MAX_IMAGE, "boot.efi size"),
            root_sha256=as_bytes(body["root_sha256"], size, "root digest"),
            root_size=as_int(
                body["root_size"], min(size, 1), MAX_IMAGE if size else 0, "root size"
            ),
            kernel_map_sha256=as_bytes(body["kernel_map_sha256"], size, "kernel map digest"),
            command_line=as_text(body["command_line"], 1, MAX_COMMAND_LINE - 1, "command line"),
            agent=as_bytes(body["agent"], 32, "agent digest"),
            pcr4=_digests(body["pcr4"], "PCR 4 digests"),
            pcr9=_digests(body["pcr9"], "PCR 9 digests"),
            pcr11=_digests(body["pcr11"], "PCR 11 digests"),
            packages=as_bytes(body["packages"], 32, "lock digest"),
            programs=_digests(body["programs"], "programs", 0, MAX_PROGRAMS),
        )


@dataclass(frozen=True, slots=True)
class KernelMap:
    """Where a running kernel's memory must equal its file.

    base: virtual address of `_text` as linked; KASLR moves all of it by one distance.
    intervals: (offset from `_text`, length) in bytes, sorted and disjoint.
    """

    base: int
    intervals: tuple[Interval, ...]

    def encode(self) -> bytes:
        """Bytes of `kernel.map`."""
        return cbor.encode(
            {"base": self.base, "intervals": [list(each) for each in self.intervals]}
        )

    @classmethod
    def decode(cls, data: bytes) -> KernelMap:
        """Parse `kernel.map`. Raises FormatError."""
        # Three items for each interval, and the map around them.
        found = cbor.decode(data, MAX_KERNEL_MAP, 3 * MAX_INTERVALS + 8)
        body = as_map(found, ("base", "intervals"), "kernel map")
        pairs = as_list(body["intervals"], 1, MAX_INTERVALS, "kernel intervals")
        return cls(
            base=as_int(body["base"], 0, (1 << 64) - 1, "kernel base"),
            intervals=tuple(_intervals(pairs)),
        )


def _digests(obj: object, what: str, low: int = 1, high: int = _MAX_EVENTS) -> tuple[bytes, ...]:
    return tuple(as_bytes(each, 32, what) for each in as_list(obj, low, high, what))


def _intervals(pairs: Iterable[object]) -> Iterable[Interval]:
    end = 0
    for pair in pairs:
        offset, length = as_list(pair, 2, 2, "kernel interval")
        begin = as_int(offset, 0, MAX_KERNEL, "interval offset")
        size = as_int(length, 1, MAX_KERNEL - begin, "interval length")
        if begin < end:
            raise FormatError("kernel map: intervals are not sorted and apart; build it again")
        end = begin + size
        yield begin, size

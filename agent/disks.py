"""Where a task's files lie: encrypted disks in RAM, or RAM disks where there is no such kernel.

On a PC that booted from its image both disks are block devices under a random key that the kernel
alone holds, over files in RAM. Their numbers are fixed: what the Agent makes of itself is known
beforehand, name by name, and any other device is somebody else's doing. A loop device and not
`brd`: it has exactly the size that is asked for, at any time, and gives its RAM back.

On somebody's host (a simulated Machine) they are plain RAM disks: other Machines may run there.
"""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from agent import loops, mapper

CONTAINER_UID = 65534
FILES = 65_536  # inodes of one disk: each costs kernel memory that no size limit counts
_INODE, _BLOCK, _MIB = 256, 4096, 1 << 20
_SECONDS = 60  # of one program; without acceleration making a file system takes one or two


class DiskError(Exception):
    """A disk cannot be made or removed."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Which devices the Agent takes for itself; `prefix` begins the names of its mappings."""

    prefix: str = "sealrun"
    loops: tuple[int, int] = (6, 7)
    minors: tuple[int, int] = (0, 1)

    @property
    def backing(self) -> frozenset[str]:
        """Block devices that are there without the Agent, at rest."""
        return frozenset(f"loop{each}" for each in self.loops)

    @property
    def mapped(self) -> frozenset[str]:
        """Block devices that are there only while the Agent has a task."""
        return frozenset(f"dm-{each}" for each in self.minors)


OWN = Numbers()
OWN_DEVICES = OWN.backing | OWN.mapped


@dataclass(frozen=True, slots=True)
class Present:
    """Names of the block devices that are the Agent's own at this moment."""

    backing: frozenset[str] = frozenset()
    mapped: frozenset[str] = frozenset()


class Disks(ABC):
    """The two disks of a task: 0 is where it works, 1 what its function writes."""

    kind: str
    cipher = ""
    key_bits = 0

    @abstractmethod
    def mount(self, index: int, point: Path, size: int, mode: int, flags: str) -> None:
        """Mount an empty disk that takes `size` bytes of files. Raises DiskError."""

    @abstractmethod
    def devices(self) -> list[str]:
        """Names of the encrypted devices in use now. Raises DiskError."""

    @abstractmethod
    def present(self) -> Present:
        """The block devices that are the Agent's own now, by what the kernel says they hold."""

    @abstractmethod
    def remove(self) -> int:
        """Forget the keys, and give the devices back, once nothing is mounted; keys forgotten.

        Also after a life that was cut off anywhere. Raises DiskError.
        """

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether no key and no device is left. Raises DiskError."""

    def claim(self) -> dict[str, object]:
        """Claim `scratch`. Raises DiskError."""
        return {
            "kind": self.kind,
            "cipher": self.cipher,
            "key_bits": self.key_bits,
            "devices": self.devices(),
        }


class RamDisks(Disks):
    """tmpfs: bounded, never a disk, and in clear."""

    kind = "tmpfs"

    def mount(self, index: int, point: Path, size: int, mode: int, flags: str) -> None:
        """See Disks. The first one may hold as many files as its RAM; it is the Agent's own."""
        bounds = f"size={size}" + (f",nr_inodes={FILES}" if index else "")
        owner = CONTAINER_UID if index else 0
        options = f"{bounds},uid={owner},gid={owner},mode={mode:o},{flags}"
        _mount("tmpfs", "sealrun", point, options)

    def devices(self) -> list[str]:
        """None: there is no block device."""
        return []

    def present(self) -> Present:
        """None."""
        return Present()

    def remove(self) -> int:
        """No key to forget."""
        return 0

    @property
    def gone(self) -> bool:
        """Nothing to be left."""
        return True


class SealedDisks(Disks):
    """dm-crypt over files in a RAM disk of its own at `backing`."""

    kind = "dm-crypt"
    cipher = mapper.CIPHER
    key_bits = mapper.KEY_BYTES * 8

    def __init__(self, backing: Path, numbers: Numbers = OWN) -> None:
        self.backing, self._numbers = backing, numbers

    def mount(self, index: int, point: Path, size: int, mode: int, flags: str) -> None:
        """See Disks."""
        try:
            self._map(index, device_bytes(size))
        except (mapper.MapperError, loops.LoopError, OSError) as error:
            raise DiskError(f"no encrypted disk: {error}") from error
        device = self._device(index)
        _run(make_file_system(device, CONTAINER_UID if index else 0))
        # No barriers: the disk is RAM. discard: deleted files give their RAM back.
        _mount("ext4", str(device), point, f"{flags},noatime,barrier=0,discard,noinit_itable")
        (point / "lost+found").rmdir()
        point.chmod(mode)
        reserve = Path(f"/sys/fs/ext4/{device.name}/reserved_clusters")
        reserve.write_text("0")  # else up to 16 MiB less than the task was promised

    def _map(self, index: int, size: int) -> None:
        file = self._file(index)
        file.parent.mkdir(mode=0o700, parents=True)
        _mount("tmpfs", "sealrun", file.parent, f"size={size},mode=0700,nosuid,nodev,noexec")
        with file.open("xb") as empty:
            empty.truncate(size)
        with loops.attached(self._numbers.loops[index], file) as loop:
            mapper.create(self._name(index), self._numbers.minors[index], loop, size)

    def devices(self) -> list[str]:
        """See Disks: each is looked for in the kernel."""
        try:
            found = [
                f"dm-{minor}"
                for index, minor in enumerate(self._numbers.minors)
                if mapper.is_crypt(self._name(index))
            ]
        except mapper.MapperError as error:
            raise DiskError(str(error)) from error
        return sorted(found)

    def present(self) -> Present:
        """See Disks."""
        numbers = self._numbers
        return Present(
            frozenset(
                f"loop{number}"
                for index, number in enumerate(numbers.loops)
                if loops.backing(number) == str(self._file(index))
            ),
            frozenset(
                f"dm-{minor}"
                for index, minor in enumerate(numbers.minors)
                if mapper.name_of(minor) == self._name(index)
            ),
        )

    def remove(self) -> int:
        """See Disks."""
        try:
            keys = sum(mapper.remove(self._name(index)) for index in (1, 0))
            for number in self._numbers.loops:
                loops.detach(number)
        except (mapper.MapperError, loops.LoopError) as error:
            raise DiskError(f"an encrypted disk stays: {error}") from error
        return keys

    @property
    def gone(self) -> bool:
        """See Disks."""
        try:
            left = any(mapper.exists(self._name(index)) for index in (0, 1))
        except mapper.MapperError as error:
            raise DiskError(str(error)) from error
        return not left and all(loops.is_free(number) for number in self._numbers.loops)

    def _name(self, index: int) -> str:
        return f"{self._numbers.prefix}-{('work', 'out')[index]}"

    def _file(self, index: int) -> Path:
        return self.backing / str(index) / "disk"

    def _device(self, index: int) -> Path:
        return Path(f"/dev/dm-{self._numbers.minors[index]}")


def device_bytes(size: int) -> int:
    """How large a device must be for a file system that takes `size` bytes of files.

    Tables of FILES inodes, which take RAM as far as they are used; per 128 MiB two maps and a
    descriptor; folders and lists of what belongs to which file.
    """
    total = size + FILES * _INODE + size // 1024 + _MIB
    return total + (-total) % _BLOCK


def make_file_system(device: Path, owner: int) -> list[str]:
    """mke2fs, with every property named: no configuration file decides, and no journal."""
    features = "none,dir_index,extent,filetype,large_file,huge_file,sparse_super,uninit_bg"
    return [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-O", features, "-m", "0", "-b", str(_BLOCK)),
        *("-I", str(_INODE), "-N", str(FILES)),
        *("-E", f"lazy_itable_init=1,nodiscard,root_owner={owner}:{owner}"),
        str(device),
    ]


def unmount(point: Path) -> None:
    """Unmount. Raises DiskError."""
    _run(["umount", str(point)])


def _mount(kind: str, source: str, point: Path, options: str) -> None:
    _run(["mount", "-t", kind, "-o", options, source, str(point)])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DiskError(f"{command[0]} cannot run or end; build another image") from error
    if done.returncode:
        raise DiskError(f"{command[0]} failed ({done.stderr.strip()[:160]}); is the Agent root?")

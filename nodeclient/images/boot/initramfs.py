"""The initramfs: one static program, one script, the modules that lead to the root."""

from __future__ import annotations

from pathlib import Path

from agent.formats.netboot import HTTP_PORT, MACHINE_ADDRESS, PI_ADDRESS, PREFIX, ROOT_PATH
from nodeclient.images.boot.packages import members
from nodeclient.images.boot.tree import Tree, file, folder
from nodeclient.images.errors import ImageError

MODULES = (
    *("virtio_pci", "virtio_net", "virtio_rng"),
    *("realtek", "e1000e", "igb", "igc", "r8169", "tg3", "atlantic"),
    *("loop", "squashfs", "overlay"),
)
_HERE = Path(__file__).parent
_BUSYBOX = "bin/busybox"
_FOLDERS = ("dev", "proc", "sys", "fetched", "lower", "upper", "new")


def initramfs_tree(busybox: Path, modules: Tree) -> Tree:
    """The initramfs from the package `busybox` and `modules` with their tables (depmod)."""
    program = dict(members(busybox)).get(_BUSYBOX)
    if program is None:
        raise ImageError(f"{busybox.name} holds no {_BUSYBOX}; refresh the lock")
    tree: Tree = {name: folder() for name in _FOLDERS} | {_BUSYBOX: program} | modules
    tree["init"] = file(
        _filled("init.sh", HOST=PI_ADDRESS, PORT=str(HTTP_PORT), PATH=ROOT_PATH), 0o755
    )
    tree["bin/lease"] = file(
        _filled("lease.sh", ADDRESS=MACHINE_ADDRESS, PREFIX=str(PREFIX)), 0o755
    )
    return tree


def _filled(name: str, **values: str) -> bytes:
    text = (_HERE / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text.encode()

"""The root file system: Docker, Python and the Agent, and no way in.

An allow-list: of each package only libraries and the named programs come in. No shell, no login,
no package manager, no program that raises its rights; `check_closed` looks at what came out.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.formats.bootimage import KERNEL_MAP
from agent.formats.hashes import sha256
from agent.formats.measure import tree_files
from nodeclient.images.boot.packages import members
from nodeclient.images.boot.tree import Node, Tree, file, folder, link
from nodeclient.images.errors import ImageError

HOME = "usr/lib/sealrun"
PYTHON_PACKAGES = f"{HOME}/python"
PROGRAMS = frozenset(
    {
        *("usr/bin/python3", "usr/bin/python3.11", "bin/mount", "bin/umount"),
        *("bin/kmod", "sbin/modprobe"),  # the kernel calls /sbin/modprobe for what Docker needs
        *("usr/sbin/dockerd", "usr/bin/containerd", "usr/bin/containerd-shim-runc-v2"),
        *("usr/sbin/runc", "sbin/mke2fs"),
    }
)
# All that runs on the Machine. dockerd alone reaches for the network, and has none to reach.
MODULES = (
    *("overlay", "squashfs", "loop", "virtio_pci", "virtio_net", "virtio_blk", "virtio_rng"),
    *("e1000e", "igb", "igc", "r8169", "realtek", "nvme", "ahci", "sd_mod"),
    *("xhci_pci", "ehci_pci", "usbhid", "usb_storage", "uas"),
    *("dm_crypt", "ext4", "xts", "ecb", "crc32c_generic", "crc32c_intel"),
    *("aesni_intel", "sha256_ssse3"),
)
_LIBRARY = re.compile(r"(usr/)?lib(64)?/(x86_64-linux-gnu/)?[^/]+\.so(\.[0-9.]+)?")
_STDLIB = "usr/lib/python3.11/"
_DIST = "usr/lib/python3/dist-packages/"
_UNUSED = re.compile(
    r"usr/lib/python3\.11/("
    r"(test|idlelib|lib2to3|ensurepip|pydoc_data|tkinter|turtledemo|curses|dbm|sqlite3|venv|unittest"
    r"|distutils|wsgiref|xmlrpc)/"
    r"|lib-dynload/(_curses|_dbm|_gdbm|_sqlite3|_test|_crypt|_xx|xx|nis|readline|ossaudiodev|_ctypes_t)"
    r"|(turtle|pdb|pydoc|cgitb|this|antigravity|idle|telnetlib|pty|code|smtpd|webbrowser)\.py"
    r"|_sysconfigdata|config-)"
    r"|usr/lib/python3/dist-packages/[^/]+\.(dist|egg)-info"
)
_FOLDERS = {
    **dict.fromkeys(("dev", "proc", "run", "sys", "var/lib", "var/log", "mnt", "etc"), 0o755),
    "root": 0o700,
    "tmp": 0o1777,
}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/hostname": b"machine\n",
    "etc/os-release": b"ID=sealrun\nNAME=sealrun\nPRETTY_NAME=sealrun\n",
    "etc/hosts": b"127.0.0.1 localhost\n",
    "etc/nsswitch.conf": b"hosts: files\npasswd: files\ngroup: files\n",
    f"{_DIST}sealrun.pth": f"/{PYTHON_PACKAGES}\n/{HOME}\n".encode(),
}
_LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"  # of every program


def root_tree(packages: Iterable[Path], wheels: Tree, modules: Tree, agent: Path) -> Tree:
    """The root without the kernel map: packages, wheels, kernel modules and the Agent."""
    tree: Tree = {}
    for package in packages:
        tree |= {path: _modest(path, node) for path, node in members(package) if _kept(path)}
    tree |= wheels | modules
    tree |= {path: folder(mode) for path, mode in _FOLDERS.items()}
    tree |= {path: file(content) for path, content in _FILES.items()}
    for name, _ in tree_files(agent):
        tree[f"{HOME}/agent/{name}"] = file((agent / name).read_bytes())
    tree["usr/bin/runc"] = link("../sbin/runc")
    return tree


def with_kernel_map(tree: Tree, kernel_map: bytes) -> Tree:
    """The root with the map that the Agent answers questions about the kernel by."""
    return tree | {f"{HOME}/{KERNEL_MAP}": file(kernel_map)}


def check_closed(tree: Mapping[str, Node]) -> None:
    """Raise ImageError if anything but `PROGRAMS` can be run, or anything raises its rights.

    So there is no shell, no login and no package manager, under whatever name.
    """
    for path, node in tree.items():
        if node.kind == stat.S_IFREG and node.mode & 0o111 and path not in (*PROGRAMS, _LOADER):
            raise ImageError(f"the root would hold the program {path}; take it out")
        if node.mode & (stat.S_ISUID | stat.S_ISGID):
            raise ImageError(f"{path} would raise its rights; take it out")


def programs_of(tree: Mapping[str, Node]) -> tuple[bytes, ...]:
    """SHA-256 of all that can be started, sorted; without the loader, which starts anything."""
    return tuple(
        sorted(
            {
                sha256(node.content)
                for path, node in tree.items()
                if node.kind == stat.S_IFREG and node.mode & 0o111 and path != _LOADER
            }
        )
    )


def _modest(path: str, node: Node) -> Node:
    """Modules that are also scripts are only modules here; a library needs no such bit."""
    if node.kind != stat.S_IFREG or path in (*PROGRAMS, _LOADER):
        return node
    return file(node.content)


def _kept(path: str) -> bool:
    if path in PROGRAMS or _LIBRARY.fullmatch(path):
        return True
    return path.startswith((_STDLIB, _DIST)) and not _UNUSED.match(path)

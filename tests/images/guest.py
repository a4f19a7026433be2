"""The boot image's own kernel and root in QEMU, without firmware, network or Agent.

For what only that kernel can show. The initramfs mounts the root from a disk and starts a script by
the root's Python as PID 1; what it writes comes out of the serial port. Some 15 seconds.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.formats.bootimage import EFI, ROOT
from nodeclient.images.boot.keep import BuiltBoot
from nodeclient.images.boot.pe import Pe
from nodeclient.images.boot.recipe import EPOCH
from nodeclient.images.boot.tree import cpio, file

SECONDS = 900  # 20 alone; on two cores that ten others use, twenty times as long
MARK = "sealrun-result "
_INIT = """#!/bin/busybox sh
B=/bin/busybox
for name in proc sysfs devtmpfs; do $B mkdir -p /$name; done
$B mount -t proc proc /proc; $B mount -t sysfs sysfs /sys; $B mount -t devtmpfs dev /dev
for module in virtio_pci virtio_rng squashfs overlay; do $B modprobe $module; done
$B insmod /virtio_blk.ko
while [ ! -b /dev/vda ]; do $B usleep 50000; done
$B mount -t squashfs -o ro /dev/vda /lower
$B mount -t tmpfs upper /upper
$B mkdir /upper/data /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /new
$B mount -t tmpfs -o mode=0755 run /new/run
$B mkdir -m 0700 /new/run/sealrun
$B cp -r /given /new/run/given
for point in dev proc sys; do $B mount --move /$point /new/$point; done
exec $B switch_root /new /usr/bin/python3 -I -B /run/given/check.py
"""
_FRAME = """
import json, os, sys, traceback
from agent.system import libc
sys.stdout = sys.stderr = open("/dev/ttyS0", "w", buffering=1)
result = {}
try:
%s
except BaseException:
    traceback.print_exc()
print("\\n%s" + json.dumps(result))
os.sync()
libc().reboot(0x4321FEDC)
"""


def run_guest(
    image: BuiltBoot,
    folder: Path,
    script: str,
    *devices: str,
    given: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """What `script` left in its dictionary `result`. Raises AssertionError with the console.

    `devices`: further arguments of QEMU; `given`: files that the script finds in `/run/given`.
    """
    kernel, early = folder / "kernel", folder / "initrd"
    efi = (image.path / EFI).read_bytes()
    parts = {
        each.name: efi[each.offset : each.offset + each.virtual_size]
        for each in Pe.parse(efi).sections
    }
    kernel.write_bytes(parts[".linux"])
    body = _FRAME % ("".join(f"    {line}\n" for line in script.splitlines()), MARK)
    extra = {
        "init": file(_INIT.encode(), 0o755),
        "given/check.py": file(body.encode()),
        "virtio_blk.ko": file(_from_root(image, "virtio_blk.ko")),
    }
    extra |= {f"given/{name}": file(content) for name, content in (given or {}).items()}
    archive = parts[".initrd"]
    early.write_bytes(archive + bytes(-len(archive) % 4) + cpio(extra, EPOCH))
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-no-reboot"),
        *(() if "-machine" in devices else ("-machine", "q35")),
        *("-kernel", str(kernel), "-initrd", str(early)),
        *("-append", f"{image.manifest.command_line} console=ttyS0"),
        *("-drive", f"if=virtio,format=raw,readonly=on,file={image.path / ROOT}"),
        *("-device", "virtio-rng-pci", "-serial", "stdio", "-monitor", "none", *devices),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    assert len(found) == 1, done.stdout[-6000:] + done.stderr[-2000:]
    result = json.loads(found[0].removeprefix(MARK))
    assert isinstance(result, dict)
    result["console"] = done.stdout
    return result


def _from_root(image: BuiltBoot, name: str) -> bytes:
    """The one file of this name in the root."""
    root = str(image.path / ROOT)
    listed = subprocess.run(
        ["unsquashfs", "-l", "-d", "", root], check=True, capture_output=True, text=True
    ).stdout.split()
    [path] = [each for each in listed if each.endswith(f"/{name}")]
    return subprocess.run(
        ["unsquashfs", "-cat", root, path.lstrip("/")], check=True, capture_output=True
    ).stdout

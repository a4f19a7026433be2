"""What only the boot image's own kernel can show: encrypted disks, its options, the clock.

One guest, one boot; each test looks at a part of what its script found.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nodeclient.core.checks.machine import in_ram
from tests.images.boot import kept_image
from tests.images.guest import run_guest
from tests.images.small import small_image

WORK, OUT = 48 << 20, 2 << 20
_SCRIPT = f"""
import subprocess, time
from pathlib import Path
from agent import disks, host, loops, mapper, system
from agent.capabilities import SYS_TIME, drop
from agent.inventory import inventory
from agent.scratch import make_scratch, mounted_under

system.set_up()
system.load_disk_modules()
folder = Path("/run/sealrun/scratch")
scratch = make_scratch(folder, sealed=True)
result["before"] = inventory(scratch.disks.present())["block"]
result["claims"] = [scratch.claim()]
scratch.mount({WORK}, {OUT}, ["first"])
result["claims"].append(scratch.claim())
result["during"] = inventory(scratch.disks.present())["block"]
result["listed"] = sorted(each.name for each in Path("/sys/class/block").iterdir())
result["mounts"] = [row for row in host.mounts() if row[0].startswith(str(folder))]
result["modes"] = [oct(each.stat().st_mode & 0o7777) for each in (folder, scratch.out)]
result["owner"] = scratch.out.stat().st_uid
result["in_out"] = [each.name for each in scratch.out.iterdir()]

canary = b"clear text of a task " * 200
(scratch.inputs / "one").write_bytes(canary)
written = 0
try:
    with open(scratch.out / "first" / "big", "wb", buffering=0) as sink:
        while True:
            written += sink.write(canary)
except OSError as error:
    result["full"] = [error.errno, written]
files = 0
try:
    (scratch.out / "first" / "big").unlink()
    for files in range(200_000):
        (scratch.out / "first" / str(files)).touch()
except OSError as error:
    result["files"] = [error.errno, files]
(scratch.out / "first" / "0").unlink()  # work goes on after both kinds of "full"
(scratch.inputs / "two").write_bytes(canary)
os.sync()
held = b"".join((scratch.backing / str(index) / "disk").read_bytes() for index in (0, 1))
result["in_clear"] = canary[:20] in held
result["noise"] = len(set(held[:4096]))  # the file system's first block has 4,000 zeros in clear

# The engine's own mount of it, as a container that somebody hid would hold.
subprocess.run(["mount", "--bind", str(scratch.out), "/mnt"], check=True)
try:
    scratch.disks.remove()
except disks.DiskError as error:
    result["held"] = str(error)
subprocess.run(["umount", "/mnt"], check=True)
result["after_held"] = scratch.keys_gone
wiped = scratch.erase()
result["wiped"] = [wiped.files, wiped.bytes, wiped.keys]
result["gone"] = [scratch.gone, scratch.keys_gone]
result["after"] = inventory(scratch.disks.present())["block"]
result["claims"].append(scratch.claim())

# A life that is cut off at each step; the next one erases and makes its own.
steps = []
for step in ("loop", "table", "file system", "mounted"):
    half = make_scratch(folder, sealed=True)
    real = (mapper.create, disks.make_file_system, disks._mount)
    def cut(*_, **__):
        raise KeyboardInterrupt
    if step == "loop":
        mapper.create = cut
    if step == "table":
        disks.make_file_system = cut
    if step == "file system":
        disks._mount = lambda kind, *rest: cut() if kind == "ext4" else real[2](kind, *rest)
    try:
        half.mount({WORK}, {OUT}, [])
    except KeyboardInterrupt:
        pass
    mapper.create, disks.make_file_system, disks._mount = real
    next_life = make_scratch(folder, sealed=True)
    next_life.erase()
    steps.append([step, next_life.gone, next_life.keys_gone])
    next_life.mount({WORK}, {OUT}, [])
    next_life.erase()
result["steps"] = steps

# Somebody else's device under our number: no second best.
with loops.attached(6, Path("/etc/passwd")):
    try:
        make_scratch(folder, sealed=True).mount({WORK}, {OUT}, [])
    except Exception as error:
        result["taken"] = [type(error).__name__, str(error)]
for point in mounted_under(Path("/run/sealrun/scratch.backing")):
    subprocess.run(["umount", str(point)], check=True)

result["lockdown"] = Path("/sys/kernel/security/lockdown").read_text()
result["ipv6"] = Path("/proc/net/if_inet6").exists()
result["iommu"] = os.listdir("/sys/class/iommu")
result["kcore"] = Path("/proc/kcore").open("rb").read(4).hex()

# The engine as a Machine starts it, and an image in it.
from agent.daemons import start_engine, wait_for_engine
from agent.engine import Engine
parts = start_engine()
wait_for_engine()
engine = Engine(Path("/run/docker.sock"), "guest")
result["engine"] = engine.client.info()["Driver"]
[given] = Path("/run/given").glob("*.tar")
engine.load(given)
result["image"] = engine.has_image(bytes.fromhex(given.stem))
held = [each for each in Path("/run/docker-data").rglob("usr/bin/sleep")]
result["layers"] = [each.stat().st_dev == os.stat("/run").st_dev for each in held]
result["run"] = [row[1] for row in host.mounts() if row[0] == "/run"]
result["outside"] = [
    each
    for each in ("/var/lib/docker", "/var/lib/containerd", "/var/run/docker")
    if Path(each).exists()
]
container = engine.client.containers.run(
    f"sha256:{{given.stem}}", ["/usr/bin/sleep", "600"], network_mode="none", detach=True
)
result["mounts_run"] = [row for row in host.mounts() if row[0] not in ("/", "/run")]
container.reload()
result["runs"] = container.status
container.remove(force=True)
result["rights"] = {{
    name: [
        int(line.split()[1], 16) >> SYS_TIME & 1
        for line in Path(f"/proc/{{process.pid}}/status").read_text().splitlines()
        if line.startswith("Cap")
    ]
    for name, process in parts.items()
}}
drop(SYS_TIME)
try:
    time.clock_settime(time.CLOCK_REALTIME, 1_800_000_000)
except PermissionError:
    result["clock"] = "cannot be set"
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script found, in a PC with an IOMMU."""
    folder = tmp_path_factory.mktemp("guest")
    board = ("-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on")
    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    image_id, tar = small_image(folder, program, "usr/bin/sleep", 0o755)
    given = {f"{image_id.hex()}.tar": tar.read_bytes()}
    return run_guest(kept_image(), folder, _SCRIPT, *board, given=given)


def test_scratch__claim__encrypted_disks_only_while_there_is_a_task(found: dict[str, Any]) -> None:
    fixed = {"kind": "dm-crypt", "cipher": "aes-xts-plain64", "key_bits": 512}
    here = ["dm-0", "dm-1"]
    assert found["claims"] == [fixed | {"devices": each} for each in ([], here, [])]


def test_scratch__inventory__same_with_and_without_own_disks(found: dict[str, Any]) -> None:
    assert {"dm-0", "dm-1", "loop6", "loop7"} <= set(found["listed"])
    assert found["before"] == found["during"] == found["after"]
    assert [row[0] for row in found["before"] if row[0].startswith("dm-")] == []


def test_scratch__mounts__bounded_private_and_without_execution(found: dict[str, Any]) -> None:
    mounts = {row[0]: row[1:] for row in found["mounts"]}
    work, out = (mounts[f"/run/sealrun/scratch{each}"] for each in ("", "/out"))
    assert (work[:2], out[:2]) == (["ext4", "/dev/dm-0"], ["ext4", "/dev/dm-1"])
    assert {"nosuid", "nodev"} <= set(work[2].split(","))
    assert {"nosuid", "nodev", "noexec"} <= set(out[2].split(","))
    assert [mounts[f"/run/sealrun/scratch.backing/{each}"][0] for each in (0, 1)] == ["tmpfs"] * 2
    assert found["modes"] == ["0o700", "0o755"]
    assert found["owner"] == 65534
    assert found["in_out"] == ["first"]


def test_scratch__out__takes_what_was_promised_and_hardly_more(found: dict[str, Any]) -> None:
    number, written = found["full"]
    assert number == 28  # ENOSPC
    assert OUT <= written <= OUT + (2 << 20)
    number, files = found["files"]
    assert number == 28
    assert files <= 65_536


def test_scratch__bytes_in_ram__noise(found: dict[str, Any]) -> None:
    assert found["in_clear"] is False
    assert found["noise"] > 200


def test_erase__key__gone_and_the_bytes_overwritten(found: dict[str, Any]) -> None:
    assert found["gone"] == [True, True]
    files, size, keys = found["wiped"]
    assert (files, keys) == (2, 2)
    assert size > WORK + OUT


def test_erase__still_mounted_elsewhere__no_claim_that_it_is_gone(found: dict[str, Any]) -> None:
    assert "in use" in found["held"] or "busy" in found["held"]
    assert found["after_held"] is False


def test_mount__cut_off_at_each_step__next_life_erases_and_goes_on(found: dict[str, Any]) -> None:
    names = ("loop", "table", "file system", "mounted")
    assert found["steps"] == [[name, True, True] for name in names]


def test_mount__device_taken__refused(found: dict[str, Any]) -> None:
    assert found["taken"][0] == "ScratchError"
    assert "loop6 cannot be had" in found["taken"][1]


def test_options__kernel__locked_and_readable_by_the_agent(found: dict[str, Any]) -> None:
    assert "[integrity]" in found["lockdown"]
    assert found["kcore"] == b"\x7fELF".hex()
    assert found["ipv6"] is False
    assert found["iommu"] == ["dmar0"]


def test_clock__right_dropped__cannot_be_set(found: dict[str, Any]) -> None:
    assert found["clock"] == "cannot be set"


def test_engine__image_and_layers__in_ram_and_nowhere_else(found: dict[str, Any]) -> None:
    assert found["engine"] == "overlay2"
    assert found["image"] is True
    assert found["layers"] == [True]
    assert found["run"] == ["tmpfs"]
    assert found["outside"] == []


def test_engine__container_runs__every_mount_is_one_that_appraisal_takes_for_ram(
    found: dict[str, Any],
) -> None:
    assert found["runs"] == "running"
    mounts = [tuple(row) for row in found["mounts_run"]]
    assert any(row[1] == "overlay" for row in mounts)  # the container's own root
    assert [row for row in mounts if not in_ram(row, set())] == []


def test_engine__processes__cannot_set_the_clock(found: dict[str, Any]) -> None:
    assert found["rights"] == {name: [0] * 5 for name in ("containerd", "dockerd")}

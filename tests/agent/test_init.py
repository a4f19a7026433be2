"""What PID 1 does, as far as it can be done beside another PID 1; the boot itself is in the lab."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import daemons, init, system
from agent.daemons import DOCKERD, wait_for_engine
from agent.init import power_off
from agent.system import (
    CONTROLLERS,
    MOUNTS,
    SETTINGS,
    StartFailed,
    aliases,
    apply_settings,
    enter_group,
    load_drivers,
)


def test_main__not_the_first_process__refuses() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.init"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "python -m agent" in done.stderr


def test_power_off__not_the_first_process__does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(init.os, "kill", lambda *what: called.append(what))
    monkeypatch.setattr(init, "libc", lambda: called.append("reboot"))
    power_off()
    assert called == []


def test_mount__twice__the_second_leaves_the_first(tmp_path: Path) -> None:
    """In a mount namespace of its own: nothing of it reaches this host."""
    script = f"""
from pathlib import Path
from agent.system import Mount, mount
point = Path({str(tmp_path / "deep" / "point")!r})
for _ in range(2):
    mount(Mount(str(point), "tmpfs", 2 | 4, "mode=0755"))
    (point / "kept").touch()
lines = Path("/proc/self/mountinfo").read_text().splitlines()
lines = [line for line in lines if str(point) in line]
print(len(lines), lines[0].split()[5])
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    count, options = done.stdout.split()
    assert count == "1"
    assert {"nosuid", "nodev"} <= set(options.split(","))


def test_mount__kernel_without_that_file_system__typed_error(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="another kernel"):
        system.mount(system.Mount(str(tmp_path), "nosuchfs", 0))


def test_mounts__nothing_but_ram__and_no_raised_rights() -> None:
    disks = {"ext4", "xfs", "btrfs", "vfat", "nfs", "9p"}
    assert not disks & {each.kind for each in MOUNTS}
    assert all(each.flags & 2 for each in MOUNTS)  # MS_NOSUID
    assert all(each.flags & 4 for each in MOUNTS if not each.target.startswith("/dev"))


def test_enter_group__controllers_are_shared_out_before_it_moves(tmp_path: Path) -> None:
    own = tmp_path / "machine"
    own.mkdir()
    (own / "memory.swap.max").touch()
    enter_group(tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == CONTROLLERS
    assert (own / "cgroup.procs").read_text() == "0"


def test_enter_group__no_swap_limit__does_not_start(tmp_path: Path) -> None:
    """Docker would leave the limit out of every container and go on."""
    with pytest.raises(StartFailed, match="limits no swap"):
        enter_group(tmp_path)


def test_apply_settings__an_unknown_one__is_left_out(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/sysrq").write_text("438")
    apply_settings(SETTINGS, tmp_path)
    assert (tmp_path / "kernel/sysrq").read_text() == "0"


def test_engine__options__nothing_written_to_disk_and_no_network() -> None:
    values = dict(itertools.pairwise(DOCKERD))
    assert all(values[name].startswith("/run/") for name in ("--data-root", "--exec-root"))
    assert values["--containerd"].startswith("/run/")
    assert values["--bridge"] == "none"
    assert "--iptables=false" in DOCKERD


def test_load_drivers__devices_behind_devices__asks_for_each_alias_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller's driver brings up the disk behind it, which needs a driver of its own."""
    device(tmp_path, "pci0/nvme", "pci:v1")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/uevent_seqnum").write_text("7")
    asked: list[list[str]] = []

    def modprobe(*names: str) -> int:
        asked.append([*names])
        device(tmp_path, "pci0/nvme/disk", "scsi:t-0")
        return 0

    monkeypatch.setattr(system, "modprobe", modprobe)
    load_drivers(tmp_path)
    assert asked == [["pci:v1"], ["scsi:t-0"]]


def test_wait_for_drivers__loaded_meanwhile__goes_on(tmp_path: Path) -> None:
    sign = tmp_path / "drivers"
    waiting = threading.Thread(target=system.wait_for_drivers, args=(sign,))
    waiting.start()
    assert waiting.is_alive()
    sign.touch()
    waiting.join(60)
    assert not waiting.is_alive()


def test_wait_for_drivers__they_never_are__no_hello(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_DRIVER_TRIES", 2)
    with pytest.raises(StartFailed, match="drivers are not loaded"):
        system.wait_for_drivers(tmp_path / "none")


def test_live__order__drivers_are_loaded_before_the_sign_and_the_clock_kept_for_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Agent starts with the right to set the clock, which PID 1 gives up behind it."""
    steps: list[str] = []
    sign = tmp_path / "drivers"

    class Child:
        pid = 7

    def started(_: object) -> Child:
        steps.append("agent")
        return Child()

    monkeypatch.setattr(init, "DRIVERS_LOADED", sign)
    for name in ("set_up", "load_disk_modules"):
        monkeypatch.setattr(init, name, lambda name=name: steps.append(name))
    monkeypatch.setattr(init, "load_drivers", lambda: steps.append(f"drivers {sign.exists()}"))
    monkeypatch.setattr(init, "start_engine", dict)
    monkeypatch.setattr(init, "start", started)
    monkeypatch.setattr(init, "drop", lambda right: steps.append(f"drop {right} {sign.exists()}"))
    monkeypatch.setattr(init, "reap_until", lambda _: steps.append("reap"))
    monkeypatch.setattr(init.signal, "signal", lambda *_: None)
    monkeypatch.setattr(init.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(init, "libc", lambda: SimpleNamespace(reboot=lambda _: 0))
    init._live()
    names = ["set_up", "agent", "load_disk_modules", "drivers False", "drop 25 True", "reap"]
    assert steps == names


def test_aliases__devices_without_one__are_left_out(tmp_path: Path) -> None:
    device(tmp_path, "a", "pci:x")
    device(tmp_path, "a/b", "")
    assert list(aliases(tmp_path)) == ["pci:x"]


def test_wait_for_engine__it_never_answers__typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "_TRIES", 2)
    with pytest.raises(StartFailed, match="does not answer"):
        wait_for_engine(tmp_path / "none.sock")


def test_wait_for_engine__listens_before_it_answers__waits_for_the_answer(tmp_path: Path) -> None:
    """The first two callers are hung up on and refused, as dockerd does while it starts."""
    answers = [b"", b"HTTP/1.0 503 Unavailable\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nOK"]
    served: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            caller, _ = listener.accept()
            with caller:
                assert caller.recv(64).startswith(b"GET /_ping")
                caller.sendall(answer)
                served.append(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        wait_for_engine(tmp_path / "docker.sock")
        thread.join()
    assert served == answers


def test_reap_until__others_end_first__waits_for_the_watched_one() -> None:
    script = """
import os, sys
from agent.init import reap_until
other = os.fork() or os._exit(0)
gate, opened = os.pipe()
watched = os.fork()
if not watched:
    os.read(gate, 1)
    os._exit(0)
real = os.wait
def wait():
    ended = real()
    if ended[0] == other:
        os.write(opened, b"x")
    return ended
os.wait = wait
reap_until({watched: "the Agent"})
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "done\n"
    assert "the Agent ended" in done.stderr


def device(root: Path, name: str, alias: str) -> Path:
    folder = root / "devices" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modalias").write_text(alias + "\n")
    return folder

"""Running programs by their content, and who counts as the function's own process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.programs import Programs, is_confined
from tests.machine.support import Pi

STATUS = {
    "Uid": "65534\t65534\t65534\t65534",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
SPACES = {"ipc": "ipc:[2]", "mnt": "mnt:[2]", "net": "net:[2]", "pid": "pid:[2]"}
OWN = ("ipc:[1]", "mnt:[1]", "net:[1]", "pid:[1]")


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A program that no image has: another one's bytes, and some more."""
    program = tmp_path / "stranger"
    shutil.copyfile("/bin/sleep", program)
    with program.open("ab") as more:
        more.write(os.urandom(16))
    program.chmod(0o755)
    process = subprocess.Popen([program, "600"])
    yield program, process
    process.kill()
    process.wait()


def test_running__program_replaced_on_disk__what_runs_is_told(
    stranger: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    program, _ = stranger
    digest = hashlib.sha256(program.read_bytes()).digest()
    program.unlink()
    program.write_bytes(Path("/bin/sleep").read_bytes())
    assert [f"{program} (deleted)", digest, 1] in Programs().running().programs


def test_running__same_program_twice__one_row_with_its_count() -> None:
    rows = Programs().running().programs
    mine = [
        row for row in rows if isinstance(row, list) and row[0] == os.readlink("/proc/self/exe")
    ]
    digest = hashlib.sha256(Path(sys.executable).read_bytes()).digest()
    assert mine
    assert all(row[1] == digest for row in mine)


def test_running__program_that_cannot_be_read__is_told_without_a_digest(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, {"Seccomp": "0"}, {})
    (proc / "7" / "exe").symlink_to(tmp_path / "nothing")
    assert Programs(proc).running().programs == [[str(tmp_path / "nothing"), None, 1]]


def test_running__process_that_ends_while_it_is_read__is_not_suspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, program = fake_proc(tmp_path, {"Seccomp": "0"}, {}), tmp_path / "program"
    program.write_bytes(b"short")
    exe = proc / "7" / "exe"
    exe.symlink_to(program)

    def ends(self: Programs, path: Path) -> None:
        path.unlink()  # a zombie has no program any more

    monkeypatch.setattr(Programs, "_digest", ends)
    assert Programs(proc).running().programs == []


def test_running__file_changed_in_place_and_its_time_put_back__hashed_anew(tmp_path: Path) -> None:
    proc, program = fake_proc(tmp_path, {"Seccomp": "0"}, {}), tmp_path / "program"
    program.write_bytes(b"one")
    (proc / "7" / "exe").symlink_to(program)
    programs, times = Programs(proc), os.stat(program)
    before = programs.running().programs
    program.write_bytes(b"two")
    os.utime(program, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert programs.running().programs != before


async def test_running__functions_process__is_confined_and_nobody_hears_its_name(pi: Pi) -> None:
    """The real thing: a container under the Agent's hardening, on this host's engine."""
    job = pi.job("import time; time.sleep(600)")
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    own = tuple(os.readlink(f"/proc/self/ns/{name}") for name in sorted(SPACES))
    for _ in range(600):
        inside = [pid for pid in map(int, _ids()) if b"/capsule/function/main.py" in _words(pid)]
        found = [pid for pid in inside if is_confined(Path(f"/proc/{pid}"), own)]
        if found and found == inside:  # and not runc, which becomes the function
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail(f"the function's processes {inside} are not confined")
    running = Programs().running()
    assert running.confined
    assert not is_confined(Path("/proc/self"), own)
    await pi.machine.power_off()


def test_running__functions_program__is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be a GiB for each process: answers would come too late, and cost the Executor."""
    proc = fake_proc(tmp_path, {}, {})
    (proc / "7" / "exe").symlink_to(sys.executable)

    def reads(self: Programs, path: Path) -> None:
        pytest.fail(f"{path} is read")

    monkeypatch.setattr(Programs, "_digest", reads)
    running = Programs(proc).running()
    assert (running.programs, running.confined) == ([], True)


def test_running__runc_becomes_the_function_while_it_is_read__is_not_suspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = fake_proc(tmp_path, {"Seccomp": "0"}, {})
    (proc / "7" / "exe").symlink_to(sys.executable)
    status = proc / "7" / "status"

    def becomes(self: Programs, path: Path) -> bytes:
        status.write_text(status.read_text().replace("Seccomp:\t0", "Seccomp:\t2"))
        return bytes(32)

    monkeypatch.setattr(Programs, "_digest", becomes)
    running = Programs(proc).running()
    assert (running.programs, running.confined) == ([], True)


def test_is_confined__as_in_the_container__yes(tmp_path: Path) -> None:
    assert is_confined(fake_proc(tmp_path, {}, {}) / "7", OWN)


@pytest.mark.parametrize(
    ("status", "spaces"),
    [
        *(({name: "0000000000000001"}, {}) for name in STATUS if name.startswith("Cap")),
        ({"Uid": "65534\t65534\t0\t65534"}, {}),
        ({"NoNewPrivs": "0"}, {}),
        ({"Seccomp": "0"}, {}),
        ({"Seccomp": "1"}, {}),
        *(({}, {name: f"{name}:[1]"}) for name in SPACES),
    ],
)
def test_is_confined__one_right_more__no(
    tmp_path: Path, status: dict[str, str], spaces: dict[str, str]
) -> None:
    assert not is_confined(fake_proc(tmp_path, status, spaces) / "7", OWN)


@pytest.mark.parametrize("name", list(STATUS))
def test_is_confined__kernel_does_not_say__no(tmp_path: Path, name: str) -> None:
    proc = fake_proc(tmp_path, {}, {})
    lines = (proc / "7" / "status").read_text().splitlines(keepends=True)
    (proc / "7" / "status").write_text("".join(x for x in lines if not x.startswith(name)))
    assert not is_confined(proc / "7", OWN)


def fake_proc(folder: Path, status: dict[str, str], spaces: dict[str, str]) -> Path:
    """One process, as a function's but for these lines of its status and these namespaces."""
    proc = folder / "proc"
    for name, there in (("self", dict(zip(sorted(SPACES), OWN, strict=True))), ("7", SPACES)):
        (proc / name / "ns").mkdir(parents=True)
        for space, target in (there | (spaces if name == "7" else {})).items():
            (proc / name / "ns" / space).symlink_to(target)
    text = "".join(f"{name}:\t{value}\n" for name, value in (STATUS | status).items())
    (proc / "7" / "status").write_text(text)
    return proc


def _ids() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""

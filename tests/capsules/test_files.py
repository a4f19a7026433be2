"""Files that are whole or not there: publishing, never overwriting, private reading."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from nodeclient import files
from nodeclient.files import FileRefused


def left_over(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_file__block_without_an_error__appears_whole_and_private(tmp_path):
    with files.new_file(tmp_path / "f") as stream:
        stream.write(b"a" * 10)
        assert not (tmp_path / "f").exists()
        stream.write(b"b")
    assert (tmp_path / "f").read_bytes() == b"a" * 10 + b"b"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert left_over(tmp_path) == ["f"]


@pytest.mark.parametrize("nameless", [True, False])
def test_new_file__error_in_the_block__leaves_nothing(tmp_path, monkeypatch, nameless):
    if not nameless:
        without_tmpfile(monkeypatch)

    def write_and_fail():
        with files.new_file(tmp_path / "f") as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert left_over(tmp_path) == []


def without_tmpfile(monkeypatch):
    """As on a filesystem that has no nameless files."""
    real = os.open

    def open_(path, flags, *more, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", open_)


def test_new_file__filesystem_without_nameless_files__works_alike(tmp_path, monkeypatch):
    without_tmpfile(monkeypatch)
    files.write_new(tmp_path / "f", b"x")
    assert (tmp_path / "f").read_bytes() == b"x"
    assert left_over(tmp_path) == ["f"]
    with pytest.raises(FileRefused):
        files.write_new(tmp_path / "f", b"y")


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_new_file__existing_target__refused_and_untouched(tmp_path, kind):
    target = tmp_path / "f"
    if kind == "file":
        target.write_bytes(b"old")
    else:
        target.symlink_to("nowhere")
    with pytest.raises(FileRefused, match="exists"):
        files.write_new(target, b"new")
    assert left_over(tmp_path) == ["f"]
    assert target.is_symlink() or target.read_bytes() == b"old"


def test_new_file__target_that_appears_meanwhile__is_not_overwritten(tmp_path):
    target = tmp_path / "f"

    def race():
        with files.new_file(target) as stream:
            stream.write(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(FileRefused):
        race()
    assert target.read_bytes() == b"theirs"


def test_new_file__process_killed_in_the_middle__leaves_nothing(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from nodeclient.files import new_file\n"
        "with new_file(Path(sys.argv[1]) / 'f') as stream:\n"
        "    stream.write(b'secret' * 1000); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert left_over(tmp_path) == []


def test_replace_file__failed_write__keeps_the_old(tmp_path, monkeypatch):
    target = tmp_path / "f"
    files.replace_file(target, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        files.replace_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert left_over(tmp_path) == ["f"]


def test_read_private__own_file__is_read(tmp_path):
    files.write_new(tmp_path / "f", b"secret")
    assert files.read_private(tmp_path / "f") == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_read_private__file_that_others_may_use__refused(tmp_path, mode):
    files.write_new(tmp_path / "f", b"secret")
    (tmp_path / "f").chmod(mode)
    with pytest.raises(FileRefused, match="chmod"):
        files.read_private(tmp_path / "f")


def test_read_private__link_folder_fifo_or_nothing__refused(tmp_path):
    files.write_new(tmp_path / "f", b"secret")
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "fifo", "missing", "."):
        with pytest.raises(FileRefused):
            files.read_private(tmp_path / name)


def test_read_private__file_of_another_user__refused(tmp_path, monkeypatch):
    files.write_new(tmp_path / "f", b"secret")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(FileRefused, match="another user"):
        files.read_private(tmp_path / "f")


def test_read_private__endless_file__refused(tmp_path):
    files.write_new(tmp_path / "f", bytes((1 << 20) + 1))
    with pytest.raises(FileRefused, match="larger"):
        files.read_private(tmp_path / "f")

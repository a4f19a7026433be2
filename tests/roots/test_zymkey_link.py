"""The process that calls the binding: what ends it, what it is told, what it never says."""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeclient.roots.base import (
    RootAbsent,
    RootBusy,
    RootError,
    RootLocked,
    UnsealError,
)
from nodeclient.roots.zymkey import link as zymkey_link
from nodeclient.roots.zymkey import worker
from nodeclient.roots.zymkey.link import PAUSES, ZymkeyLink
from nodeclient.roots.zymkey.worker import (
    BROKEN,
    NO_LIBRARY,
    NOT_GENUINE,
    NOT_OFFERED,
    NoLibrary,
    NotGenuine,
    Zymkey,
    attempt,
)
from scripts.standin.control import StandIn
from tests.roots.zymkey_kit import PATIENCE, link_to

ENDED_SECONDS = 30


@pytest.fixture
def link(device: StandIn) -> Iterator[ZymkeyLink]:
    with contextlib.closing(link_to(device)) as link:
        yield link


def process_of(link: ZymkeyLink) -> int:
    assert link._process is not None
    return link._process.pid


# ------------------------------------------------------------------------------ the link's side


def test_ask__process_that_crashed__is_a_clear_error_and_begun_anew(link: ZymkeyLink) -> None:
    public = link.ask(b"K")
    os.kill(process_of(link), signal.SIGSEGV)
    with pytest.raises(RootAbsent, match="plugged in"):
        link.ask(b"K")
    assert link.ask(b"K") == public


def test_ask__no_answer__ends_the_process_that_hangs(device: StandIn) -> None:
    with contextlib.closing(link_to(device, patience=0.2)) as link:
        with contextlib.suppress(RootBusy):  # of a computer that is busy itself
            link.ask(b"K")
        device.fault(slow=PATIENCE)
        with pytest.raises(RootBusy, match=r"did not answer within 0\.2 s"):
            link.ask(b"K")
        assert link._process is None


def test_ask__busy_for_a_while__is_asked_again_with_pauses(device: StandIn) -> None:
    pauses: list[float] = []
    with contextlib.closing(ZymkeyLink(device.library, PATIENCE, pauses.append)) as link:
        link.ask(b"K")
        device.fault(busy=3)
        assert len(link.ask(b"K")) == 64
        assert pauses == list(PAUSES[:3])
        device.fault(busy=-1)
        with pytest.raises(RootBusy, match="stays busy"):
            link.ask(b"K")
        assert pauses[3:] == list(PAUSES)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENODEV, RootAbsent),
        (errno.EIO, RootAbsent),
        (errno.ETIMEDOUT, RootAbsent),
        (errno.EACCES, RootLocked),
        (errno.ENOKEY, RootLocked),
        (errno.ENOMEM, RootError),
    ],
)
def test_ask__code_of_the_library__is_its_kind_of_error(
    device: StandIn, link: ZymkeyLink, code: int, error: type[RootError]
) -> None:
    device.fault(fail={"public_key": code})
    with pytest.raises(RootError, match=errno.errorcode[code]) as caught:
        link.ask(b"K")
    assert type(caught.value) is error
    device.heal()
    assert len(link.ask(b"K")) == 64


def test_ask__library_missing_or_no_library__says_so(tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    other = Path(_ctypes.__file__)  # loads, but has none of the names
    for path in (tmp_path / "missing.so", text, other):
        with (
            contextlib.closing(ZymkeyLink(path, PATIENCE)) as link,
            pytest.raises(RootAbsent, match="is not Zymbit's library"),
        ):
            link.ask(b"K")


@pytest.mark.parametrize("code", [None, errno.EBADMSG, errno.EINVAL])
def test_ask__locked_bytes_that_are_not__do_not_unseal(
    device: StandIn, link: ZymkeyLink, code: int | None
) -> None:
    """The binding's library says it by 0, or by a code: which one is written nowhere."""
    if code is not None:
        device.fault(fail={"unlock": code})
    with pytest.raises(UnsealError):
        link.ask(b"U", b"x" * 60)


def test_ask__what_the_model_lacks__is_none(device: StandIn, link: ZymkeyLink) -> None:
    assert link.ask_if_offered(b"B") == bytes([0, 0])
    device.fault(fail={"binding": errno.ENOSYS})
    assert link.ask_if_offered(b"B") is None
    device.fault(fail={"binding": errno.ENODEV})
    with pytest.raises(RootAbsent):
        link.ask_if_offered(b"B")


def test_ask__after_so_many__in_a_new_process(
    link: ZymkeyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zymkey_link, "RENEW_AFTER", 2)
    seen = []
    for _ in range(4):
        link.ask(b"K")
        seen.append(process_of(link))
    assert seen[0] == seen[1] != seen[2] == seen[3]


@pytest.mark.parametrize(
    "answer",
    [b"", b"\0\0", struct.pack("!iI", 0, worker.MOST_BYTES + 1) + b"x" * 9000],
)
def test_ask__answer_out_of_form__ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        f"import os, socket\ns = socket.socket(fileno=0)\ns.recv(1)\ns.sendall({answer!r})\n"
        "s.shutdown(socket.SHUT_WR)\ns.recv(9999)\n"
    )
    monkeypatch.setattr(worker, "__file__", str(script))
    with contextlib.closing(ZymkeyLink(tmp_path, PATIENCE)) as link:
        with pytest.raises(RootAbsent, match="ended its process"):
            link.ask(b"K")
        assert link._process is None


def test_close__process__ends_and_is_not_begun_again(link: ZymkeyLink) -> None:
    link.ask(b"K")
    process = process_of(link)
    link.close()
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises(RootError, match="was closed"):
        link.ask(b"K")


def test_process__whose_node_is_gone__ends_by_itself(link: ZymkeyLink) -> None:
    link.ask(b"K")
    process, channel = link._process, link._channel
    assert process is not None
    assert channel is not None
    channel.shutdown(socket.SHUT_RDWR)
    assert process.wait(ENDED_SECONDS) == 0


def test_process__memory__leaves_no_core(link: ZymkeyLink) -> None:
    link.ask(b"K")
    limits = Path(f"/proc/{process_of(link)}/limits").read_text()
    (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_protect__memory__is_closed_to_a_debugger_of_the_same_user() -> None:
    get_dumpable = 3  # PR_GET_DUMPABLE of prctl(2)
    lines = (
        "import sys; sys.path.insert(0, sys.argv[1]); import worker\n"
        f"worker.protect(); print(worker._libc.prctl({get_dumpable}))"
    )
    folder = str(Path(worker.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", lines, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


# ---------------------------------------------------------------------------- the worker's side


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (AssertionError("bad return code -19"), -19),
        (AssertionError("bad return code 3"), BROKEN),
        (AssertionError("bad return code -19 canary"), BROKEN),
        (AssertionError(), BROKEN),
        (NotGenuine(), NOT_GENUINE),
        (NoLibrary(), NO_LIBRARY),
        (AttributeError("canary"), NOT_OFFERED),
        (ValueError("canary"), BROKEN),
        (MemoryError(), BROKEN),
    ],
)
def test_attempt__whatever_is_raised__becomes_a_status_without_words(
    raised: Exception, status: int
) -> None:
    def do() -> tuple[int, bytes]:
        raise raised

    assert attempt(do) == (status, b"")


class FreeingLibc:
    """Notes what a buffer holds when it is given back."""

    def __init__(self) -> None:
        self.freed: list[bytes] = []

    def free(self, pointer: ctypes.c_void_p) -> None:
        assert pointer.value is not None
        self.freed.append(ctypes.string_at(pointer.value, 6))


class UnlockingClient:
    """The binding's client as far as `unlock` goes, on a buffer of this test."""

    def __init__(self, status: int, plain: bytes) -> None:
        self._zk_ctx = None
        self._status = status
        self.buffer = ctypes.create_string_buffer(plain, len(plain))

    def _zkUnlockDataB2B(
        self, context: None, source: object, size: int, plain: object, plain_size: object,
        shared: bool,
    ) -> int:  # fmt: skip
        plain._obj.value = ctypes.addressof(self.buffer)  # type: ignore[attr-defined]
        plain_size._obj.value = len(self.buffer)  # type: ignore[attr-defined]
        return self._status


def test_unlock__plain_bytes_of_the_library__are_cleared_before_they_are_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libc = FreeingLibc()
    monkeypatch.setattr(worker, "_libc", libc)
    client = UnlockingClient(1, b"secret")
    assert Zymkey(client).answer(b"U", b"locked") == (0, b"secret")
    assert libc.freed == [bytes(6)]
    assert client.buffer.raw == bytes(6)


@pytest.mark.parametrize(("status", "error"), [(0, NotGenuine), (-5, AssertionError)])
def test_unlock__status_that_is_not_one__gives_nothing(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        Zymkey(UnlockingClient(status, b"secret")).answer(b"U", b"locked")


@pytest.mark.parametrize(
    "request_bytes", [struct.pack("!BI", 75, worker.MOST_BYTES + 1), b"K\0", b""]
)
def test_serve__request_out_of_form__is_hung_up_on(request_bytes: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(request_bytes)
        ours.shutdown(socket.SHUT_WR)
        worker.serve(theirs, "/nowhere")
        theirs.shutdown(socket.SHUT_WR)
        assert ours.recv(100) == b""


def test_serve__operation_that_is_none__is_refused(link: ZymkeyLink) -> None:
    with pytest.raises(RootError, match=f"status {BROKEN}"):
        link.ask(b"?")


def test_device__stdin_ends__its_process_ends(device: StandIn) -> None:
    process = device._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(ENDED_SECONDS) == 0


def test_device__frame_out_of_form__is_hung_up_on(device: StandIn) -> None:
    for head in ((99, 0, 0), (0, 0, 0), (1, 0, 70_000)):
        with socket.socket(socket.AF_UNIX) as client:
            handle = os.open(device.folder, os.O_PATH)
            client.connect(f"/proc/self/fd/{handle}/zymkey.sock")
            os.close(handle)
            client.settimeout(ENDED_SECONDS)
            client.sendall(struct.pack("!IiI", *head))
            assert client.recv(100) == b""

"""The back door of the lab's attackers, and the frames that they send through it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeclient.machine.netboot.frames import describe
from scripts.lab.attacks import breach, door, marks
from scripts.lab.attacks.breach import Door, DoorClosed
from scripts.lab.attacks.early import INIT, init_with
from scripts.lab.attacks.frames import FRAMES_OF, OTHER_MAC
from scripts.lab.network import MAC


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Door]:
    """A door whose other end is served in this process, as the Machine serves it."""
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=_serve, args=(listener,), daemon=True)
        server.start()
        yield Door(path)
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def test_door__names_of_one_order__are_there_for_the_next(opened: Door) -> None:
    assert opened.run("def twice(n):\n    return 2 * n") is None
    assert opened.run("said = twice(21)") == 42


def test_door__order_that_fails__is_told_and_the_door_stays_open(opened: Door) -> None:
    with pytest.raises(DoorClosed, match="nothing to see"):
        opened.run("raise SystemExit('nothing to see')")
    assert opened.run("said = 1") == 1


def test_door__what_is_sent_into_it__ends_before_the_limit_of_a_line(opened: Door) -> None:
    opened.run(breach.GUEST.read_text())
    assert opened.run("said = sorted(n for n in globals() if n == 'ways_out_of_container')")


def test_init_with__a_step__stands_before_the_root_is_entered() -> None:
    lines = init_with("echo attacker\n").content.decode().splitlines()
    at = lines.index("echo attacker")
    assert lines[at + 1].startswith("exec $B switch_root")
    assert len(lines) == len(INIT.read_text().splitlines()) + 1
    assert "@" not in "".join(line for line in lines if "wget" in line)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dns", "udp 10.77.0.2:4444 to 192.0.2.53:53"),
        ("tcp", "tcp 10.77.0.2:4444 to 192.0.2.53:443"),
        ("udp", "udp 10.77.0.2:4444 to 10.77.0.1:4000"),
        ("icmp", "icmp 10.77.0.2 to 192.0.2.53"),
        ("ipv6", "udp fe80::1:4444 to 2001:db8::53:53"),
        ("arp_spoof", "arp-reply 10.77.0.1 to 192.0.2.53"),
        ("mac_spoof", "udp 10.77.0.2:4444 to 10.77.0.1:4000"),
    ],
)
def test_frames__each_attack__are_what_its_name_says(name: str, said: str) -> None:
    frame = FRAMES_OF[name]()
    found = describe(frame[:14], int.from_bytes(frame[12:14], "big"), frame[14:])
    assert str(found).startswith(said)
    sender = frame[6:12].hex(":")
    assert sender == (OTHER_MAC if name == "mac_spoof" else MAC)
    assert callable(getattr(marks, name))


def _serve(listener: socket.socket) -> None:
    names: dict[str, object] = {}
    while True:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        with line, line.makefile("rb") as orders:
            for order in orders:
                line.sendall(json.dumps(door.carry_out(order, names)).encode() + b"\n")

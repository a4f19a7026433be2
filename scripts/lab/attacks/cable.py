"""A second machine, plugged into the network that joins the Pi and its PC."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Final

from agent.formats.netboot import (
    HTTP_PORT,
    LINK_PORT,
    MACHINE_ADDRESS,
    PARAMETERS_PATH,
    PI_ADDRESS,
    PREFIX,
)
from nodeclient.errors import MachineError
from scripts.lab.attacks.wire import Reasons
from scripts.lab.namespaces import CABLE, entered
from scripts.lab.network import MAC
from scripts.lab.rig import INTRUDER, PI, Rig

STRANGER: Final = "52:54:00:77:00:99"
_ADDRESS = "10.77.0.9"
_SECONDS = 60.0
_WAIT = 1.0


def stranger(rig: Rig) -> Reasons:
    """It asks for an address and knocks at the Pi's ports while the PC runs."""
    before = rig.pi.strangers()
    with _plugged(rig, STRANGER, _ADDRESS):
        answered = [port for port in (HTTP_PORT, LINK_PORT) if _connects(port)]
        answered += [67] if _gets_address() else []
    if answered or rig.pi.strangers() == before:
        return ()
    return ("cable: frames of another machine were dropped, and nothing answered it",)


def twin(rig: Rig) -> Reasons:
    """With the PC's own address it fetches the boot's secrets, and somebody fetches them again."""
    found: list[str] = []

    def boot() -> None:
        try:
            rig.boot()
        except MachineError as error:
            found.append(f"machine: {error.message}")

    with _plugged(rig, MAC, MACHINE_ADDRESS):
        booting = threading.Thread(target=boot)
        booting.start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            _fetch_twice()
        booting.join()
    return tuple(found)


@contextlib.contextmanager
def _plugged(rig: Rig, mac: str, address: str) -> Iterator[None]:
    """A machine with this address on the cable; this thread is on it meanwhile."""
    name = f"plug{secrets.token_hex(3)}"
    pi, intruder = (rig.spaces.site(each).namespace for each in (PI, INTRUDER))
    peer = ("peer", "name", name, "address", mac, "netns", intruder)
    _ip("-n", pi, "link", "add", name, "type", "veth", *peer)
    try:
        _ip("-n", pi, "link", "set", name, "master", CABLE, "up")
        _ip("-n", intruder, "address", "add", f"{address}/{PREFIX}", "dev", name)
        _ip("-n", intruder, "link", "set", name, "up")
        with entered(intruder):
            yield
    finally:
        _ip("-n", pi, "link", "delete", name)


def _connects(port: int) -> bool:
    with socket.socket() as plain:
        plain.settimeout(_WAIT)
        return plain.connect_ex((PI_ADDRESS, port)) == 0


def _gets_address() -> bool:
    """DHCPDISCOVER (RFC 2131, §4.1) to everybody; whether anybody offers."""
    hardware = bytes.fromhex(STRANGER.replace(":", ""))
    packet = b"\x01\x01\x06\x00" + secrets.token_bytes(4) + bytes(20) + hardware
    packet = packet.ljust(236, b"\0") + b"\x63\x82\x53\x63" + b"\x35\x01\x01\xff"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        plain.settimeout(_WAIT)
        plain.bind((_ADDRESS, 68))
        plain.sendto(packet, ("255.255.255.255", 67))
        try:
            return bool(plain.recv(1024))
        except TimeoutError:
            return False


def _fetch_twice() -> None:
    """The parameters as soon as they are served, and once more. Raises OSError, HTTPException."""
    end, got = time.monotonic() + _SECONDS, 0
    while got < 2 and time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection(PI_ADDRESS, HTTP_PORT, timeout=_WAIT)
            connection.request("GET", PARAMETERS_PATH)
            connection.getresponse().read()
            got += 1
        except OSError:
            time.sleep(0.05)  # nothing is served yet
        finally:
            connection.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)

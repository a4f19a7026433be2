"""An eraser in miniature, run in the PC's namespace: DHCP, one fetch, then the wire protocol.

Arguments: the SHA-256 that boot.efi must have, and `honest`, `drops` (one byte) or `absent`. What
it saw of the cable goes to standard output; it ends with 0 once it was told goodbye.
"""

from __future__ import annotations

import hashlib
import socket
import sys

from agent.formats import erasure as wire
from agent.formats.netboot import (
    EFI_PATH,
    ERASE_PORT,
    HTTP_PORT,
    LINK_PORT,
    PARAMETERS_PATH,
    PI_ADDRESS,
    ROOT_PATH,
)
from tests.machine.eraser_peer import Peer
from tests.machine.fake_pc import dhcp, fail, get


def main(efi: str, manner: str) -> int:
    if not dhcp():
        return fail("no address")
    status, body = get(EFI_PATH)
    if status != 200 or hashlib.sha256(body).hexdigest() != efi:
        return fail(f"{EFI_PATH}: {status}")
    sys.stdout.write(f"others {get(ROOT_PATH)[0]} {get(PARAMETERS_PATH)[0]}\n")
    if manner == "absent":
        return fail("never dials")
    link = socket.create_connection((PI_ADDRESS, ERASE_PORT), timeout=20)
    peer = Peer(link, lies={"stored": look_around})
    if manner == "drops":
        peer.lies["fill"] = drop
    peer.run()
    return 0 if peer.ended == wire.BYE else fail("no goodbye")


def drop(me: Peer) -> None:
    me.take_fill()
    me.memory[77] ^= 1


def look_around(me: Peer) -> None:
    """While it is to answer for the fill: is there anybody who could have kept it?"""
    open_ports = [port for port in (HTTP_PORT, LINK_PORT, ERASE_PORT) if reaches(port)]
    sys.stdout.write(f"open {open_ports}\n")
    me.link.sendall(wire.STORED)


def reaches(port: int) -> bool:
    with socket.socket() as other:
        other.settimeout(1.0)
        return other.connect_ex((PI_ADDRESS, port)) == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

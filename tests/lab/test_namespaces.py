"""Namespaces of a lab: who reaches whom, and that nothing is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.embedded.site import NAMESPACES, Site
from scripts.lab.namespaces import (
    HUB_ADDRESS,
    NamespaceError,
    Namespaces,
    entered,
    processes,
    remove,
)
from tests.lab.leftovers import alive

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


@pytest.fixture
def spaces() -> Iterator[Namespaces]:
    made = Namespaces(secrets.token_hex(3), ("pi", "member"))
    try:
        made.make()
        yield made
    finally:
        made.remove()


def reaches(site: Site, address: str, port: int) -> bool:
    words = site.command([sys.executable, "-c", CONNECT, address, str(port)])
    return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0


def listening(address: str) -> socket.socket:
    return socket.create_server((address, 0))


def test_sites__reach_hub_and_each_other__not_the_host(spaces: Namespaces) -> None:
    pi, member = spaces.site("pi"), spaces.site("member")
    assert pi.address != member.address
    with entered(spaces.hub):
        hub = listening(HUB_ADDRESS)
    with entered(member.namespace):
        peer = listening(member.address)
    with hub, peer, listening("0.0.0.0") as host:
        assert reaches(pi, HUB_ADDRESS, hub.getsockname()[1])
        assert reaches(pi, member.address, peer.getsockname()[1])
        for address in {"127.0.0.1", *host_addresses()}:
            assert not reaches(pi, address, host.getsockname()[1])


def host_addresses() -> set[str]:
    shown = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True)
    return {address for address in shown.stdout.split() if "." in address}


def test_namespaces__forward_nothing_whatever_the_host_does(spaces: Namespaces) -> None:
    for name in spaces.names:
        with entered(name):
            assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0"
            routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True)
        assert "default" not in routes.stdout


def test_entered__afterwards__this_thread_is_at_home_again(spaces: Namespaces) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    with contextlib.suppress(KeyError), entered(spaces.hub):
        assert os.stat("/proc/thread-self/ns/net").st_ino != before
        raise KeyError
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_remove__ends_every_process_there_and_no_other(spaces: Namespaces) -> None:
    site = spaces.site("pi")
    # A process that left its parent and its session, as a daemon does.
    deserter = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run(site.command([sys.executable, "-c", deserter]), check=True)
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            (pid,) = processes(site.namespace)
            spaces.remove()
            assert alive({pid}) == []
            assert bystander.poll() is None
        finally:
            bystander.kill()
    assert [name for name in spaces.names if (NAMESPACES / name).exists()] == []
    remove(spaces.names)  # again: nothing to do


def test_make__twice__says_what_is_wrong(spaces: Namespaces) -> None:
    with pytest.raises(NamespaceError, match="File exists; "):
        spaces.make()

"""The power switches: an operator's commands, a magic packet on a real cable, a PC in QEMU."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from nodeclient.errors import MachineError
from nodeclient.machine.lab import Qemu, QemuSettings
from nodeclient.machine.lab.qmp import command
from nodeclient.machine.netboot import Cable, HookPower, firewall
from nodeclient.machine.netboot.firewall import WAKE_ON_LAN, Phase
from nodeclient.machine.netboot.power import magic_packet
from tests.machine.boots import CABLE
from tests.machine.wire import MAC, Wire, ip


def hook(log: Path, word: str) -> tuple[str, ...]:
    """A command that notes its word; the blank and the $ show that no shell reads it."""
    code = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"
    return ("python3", "-c", code, str(log), f"{word} $HOME")


async def test_hooks__on_off_reset__each_command_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    power = HookPower(
        CABLE, hook(log, "off"), hook(log, "on"), hook(log, "reset"), settle_seconds=0
    )
    for step in (power.on, power.reset, power.off):
        await step()
    assert log.read_text().splitlines() == ["on $HOME", "reset $HOME", "off $HOME"]
    assert power.is_on() is None
    assert power.simulated == ()


async def test_hooks__no_reset__off_and_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    power = HookPower(CABLE, hook(log, "off"), hook(log, "on"), settle_seconds=0)
    await power.reset()
    assert log.read_text().splitlines() == ["off $HOME", "on $HOME"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("python3", "-c", "raise SystemExit('no relay')"), "python3 failed with 1: no relay"),
        (("/nowhere/relay",), "/nowhere/relay: No such file or directory"),
        (("sleep", "60"), "sleep did not end in 0 s"),
    ],
)
async def test_hooks__command_fails__one_line(argv: tuple[str, ...], said: str) -> None:
    power = HookPower(CABLE, argv, hook_seconds=0.3, settle_seconds=0)
    with pytest.raises(MachineError, match=said):
        await power.off()


async def test_hooks__script_that_hangs_in_a_child__both_end_at_the_limit(tmp_path: Path) -> None:
    """A relay that hangs must neither hold the Node up nor switch anything later on."""
    script, late = tmp_path / "relay.sh", tmp_path / "late"
    script.write_text(f"#!/bin/sh\n(sleep 2; touch {late}) &\nsleep 60\n")
    script.chmod(0o755)
    power = HookPower(CABLE, (str(script), "off"), hook_seconds=0.5, settle_seconds=0)
    with pytest.raises(MachineError, match="did not end in 0 s"):
        await power.off()
    await asyncio.sleep(2.5)
    assert not late.exists()


class Plug(BaseHTTPRequestHandler):
    """A smart plug: GET /relay/0?turn=on or off."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        known = self.path in ("/relay/0?turn=on", "/relay/0?turn=off")
        self.send_response(200 if known else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def plug() -> Iterator[str]:
    """URL of a smart plug on loopback."""
    Plug.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Plug)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/relay/0?turn="
    server.shutdown()
    thread.join()
    server.server_close()


async def test_hooks__smart_plug__asked_over_http_and_its_refusal_is_an_error(plug: str) -> None:
    """As docs/operating.md shows it."""
    code = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)"

    def ask(word: str) -> tuple[str, ...]:
        return (sys.executable, "-c", code, plug + word)

    power = HookPower(CABLE, ask("off"), ask("on"), settle_seconds=0)
    await power.on()
    await power.off()
    assert Plug.asked == ["/relay/0?turn=on", "/relay/0?turn=off"]
    with pytest.raises(MachineError, match="failed with 1"):
        await HookPower(CABLE, ask("sideways"), settle_seconds=0).off()


async def test_wake_on_lan__cable_is_closed__the_packet_passes(wire: Wire) -> None:
    """It is the one thing that leaves the Pi while the Machine is off."""
    await CABLE.attach()
    await firewall.apply(CABLE, Phase.OFF)
    with wire.frames(WAKE_ON_LAN) as seen:
        await HookPower(CABLE, ("true",)).on()
        frame = seen.recv(2048)
    target = bytes.fromhex(MAC.replace(":", ""))
    assert frame[:6] == target
    assert frame[12:] == b"\x08\x42" + b"\xff" * 6 + target * 16


async def test_wake_on_lan__no_such_interface__one_line(wire: Wire) -> None:
    with pytest.raises(MachineError, match="missing cannot send a magic packet"):
        await HookPower(Cable("missing", MAC), ("true",)).on()


def test_magic_packet__layout() -> None:
    frame = magic_packet("52:54:00:00:00:01", b"\x02" * 6)
    assert len(frame) == 6 + 6 + 2 + 6 + 16 * 6
    assert frame[6:12] == b"\x02" * 6


def test_qemu__arguments__what_attestation_needs(tmp_path: Path) -> None:
    settings = QemuSettings(tmp_path, "cable", MAC, memory_file=Path("/dev/shm/ram"))
    argv = Qemu(settings).arguments()
    text = " ".join(argv)
    assert f"mac={MAC},romfile=,bootindex=1" in text  # firmware boots, not iPXE, and first of all
    assert "tcg,thread=multi" in text
    assert "tpm-crb" in text
    assert "mem-path=/dev/shm/ram,share=on" in text
    assert "IPv4PXESupport,string=no" in text
    assert "mem-path" not in " ".join(Qemu(QemuSettings(tmp_path, "cable", MAC)).arguments())


async def test_qemu__off__what_runs_is_ended_by_anybody_with_the_folder(
    wire: Wire, tmp_path: Path
) -> None:
    settings = QemuSettings(tmp_path / "pc", "tap0", MAC, memory_mib=512)
    await _tap("tap0")
    power = Qemu(settings)
    await power.on()
    assert power.is_on()
    assert power.tpm.running
    assert all(path.read_text().startswith("-----BEGIN") for path in power.tpm.certificates)
    other = Qemu(settings)
    assert other.is_on()
    await other.reset()
    assert other.is_on()
    await other.off()
    assert not power.is_on()
    assert not other.tpm.running
    await other.off()


async def test_qemu__its_process_dies__seen_and_its_tpm_goes(wire: Wire, tmp_path: Path) -> None:
    await _tap("tap0")
    power = Qemu(QemuSettings(tmp_path / "pc", "tap0", MAC, memory_mib=512))
    await power.on()
    command(power.monitor, "quit")
    async with asyncio.timeout(20):
        while power.is_on() or power.tpm.running:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await power.off()


async def test_qemu__settings_that_it_refuses__one_line(wire: Wire, tmp_path: Path) -> None:
    power = Qemu(QemuSettings(tmp_path / "pc", "tap0", "no:mac", memory_mib=512))
    with pytest.raises(MachineError, match=r"QEMU does not start \(.*; correct its settings"):
        await power.on()
    assert not power.is_on()
    assert not power.tpm.running
    deep = Qemu(QemuSettings(tmp_path / ("x" * 100), "tap0", MAC))
    with pytest.raises(MachineError, match="use a shorter path"):
        await deep.on()


async def _tap(name: str) -> None:
    ip("tuntap", "add", name, "mode", "tap")
    ip("link", "set", name, "up")

"""A real TPM 2.0 in software (swtpm), spoken to as the Agent speaks to a device.

Each has its own folder, its own seeds, and an EK certificate of a maker that exists only in it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from agent.tpm_wire import MAX_RESPONSE, TpmError, execute, u16

_STARTUP, _CLEAR = 0x144, 0  # TPM2_Startup(TPM_SU_CLEAR)


class SocketTransport:
    """The data socket of one swtpm: raw commands, raw responses."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))

    def transmit(self, command: bytes) -> bytes:
        self._socket.sendall(command)
        data = b""
        while len(data) < 6 or len(data) < int.from_bytes(data[2:6], "big"):
            part = self._socket.recv(MAX_RESPONSE)
            if not part:
                raise TpmError("swtpm ended")
            data += part
        return data

    def close(self) -> None:
        self._socket.close()


def provision(folder: Path) -> Path:
    """Make a TPM with an EK certificate; the certificate of its maker's root (PEM)."""
    authority = folder / "maker"
    authority.mkdir(parents=True)
    (folder / "state").mkdir()
    tool = folder / "localca.conf"
    lines = ("statedir", ""), ("signingkey", "/key.pem"), ("issuercert", "/issuer.pem")
    tool.write_text("".join(f"{name} = {authority}{file}\n" for name, file in lines))
    with tool.open("a") as more:
        more.write(f"certserial = {authority}/serial\n")
    (folder / "options").write_text(
        "--platform-manufacturer sealrun\n--platform-version 1\n--platform-model test\n"
    )
    setup = folder / "setup.conf"
    setup.write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {tool}\n"
        f"create_certs_tool_options = {folder / 'options'}\n"
        "active_pcr_banks = sha256\n"
    )
    subprocess.run(
        [
            *("swtpm_setup", "--tpm2", "--tpm-state", f"dir://{folder / 'state'}"),
            *("--create-ek-cert", "--lock-nvram"),
            *("--config", str(setup), "--logfile", str(folder / "log")),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return authority / "swtpm-localca-rootca-cert.pem"


def _connect(path: Path, process: subprocess.Popen[bytes]) -> SocketTransport:
    """As soon as it listens: the socket's file is there a moment earlier."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return SocketTransport(path)
        time.sleep(0.01)
    raise RuntimeError("swtpm did not start; install swtpm")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[SocketTransport]:
    """Power the TPM of `folder` on, start it up, and cut its power at the end."""
    path = folder / "socket"
    path.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder / 'state'}"),
            *("--server", f"type=unixio,path={path}", "--flags", "not-need-init"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        transport = _connect(path, process)
        execute(transport, _STARTUP, (), u16(_CLEAR))
        yield transport
        transport.close()
    finally:
        process.kill()
        process.wait()

"""A TPM 2.0 in software, with an endorsement certificate from a maker that exists only here.

Its state outlives boots, as a chip's does; its process lives for one boot of the PC and ends with
it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from nodeclient.errors import MachineError
from nodeclient.machine.pidfile import NotedProcess

_SETUP_SECONDS = 120.0
_START_SECONDS = 20.0
_INSTALL = "install swtpm and swtpm-tools"
# Where swtpm_localca keeps the maker's keys; both certificates are made on the first use.
_CA_CONFIG = """\
statedir = {ca}
signingkey = {ca}/issuer.key
issuercert = {ca}/issuer.pem
certserial = {ca}/serial
"""


class SoftwareTpm:
    """One TPM in `folder`. Its maker's keys lie in `maker`: its own, or one shared by several.

    Everything may raise MachineError.
    """

    def __init__(self, folder: Path, maker: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._maker = (maker or folder / "maker").absolute()
        self._process = NotedProcess(self._folder / "swtpm.pid")

    @property
    def socket(self) -> Path:
        """The control socket, for QEMU."""
        return self._folder / "swtpm.sock"

    @property
    def certificates(self) -> tuple[Path, Path]:
        """The maker's root and issuing certificate (PEM): whom a verifier has to trust."""
        return self._maker / "swtpm-localca-rootca-cert.pem", self._maker / "issuer.pem"

    @property
    def made(self) -> bool:
        """Whether this TPM was manufactured."""
        return (self._state / "tpm2-00.permall").exists()

    def make(self) -> None:
        """Manufacture it: seeds, endorsement keys (RSA and ECC) and their certificates."""
        for folder in (self._state, self._maker):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, text in self._configuration().items():
            (self._folder / name).write_text(text)
        argv = [
            *("swtpm_setup", "--tpm2", "--tpmstate", f"dir://{self._state}"),
            *("--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256", "--overwrite"),
            *("--config", str(self._folder / "setup.conf")),
            *("--logfile", str(self._folder / "setup.log")),
        ]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=_SETUP_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(f"swtpm_setup does not run ({error})", _INSTALL) from error
        if done.returncode or not self.made:
            raise MachineError("swtpm_setup failed", f"read {self._folder / 'setup.log'}")

    def start(self) -> None:
        """Switch it on for one boot; it ends when the PC that connects to it does."""
        self.stop()
        self.socket.unlink(missing_ok=True)
        argv = [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}"),
            *("--ctrl", f"type=unixio,path={self.socket},mode=0600"),
            "--terminate",
        ]
        try:
            child = self._process.start(argv, self._folder / "swtpm.log")
        except OSError as error:
            raise MachineError(f"swtpm does not start ({error.strerror})", _INSTALL) from error
        deadline = time.monotonic() + _START_SECONDS
        while not self.socket.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise MachineError("swtpm does not serve", f"read {self._folder / 'swtpm.log'}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Switch it off, whoever started it."""
        self._process.end()

    def remove(self) -> None:
        """Switch it off and destroy it."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process.runs

    @property
    def _state(self) -> Path:
        return self._folder / "state"

    def _configuration(self) -> dict[str, str]:
        tool = shutil.which("swtpm_localca", path=f"{os.defpath}:/usr/share/swtpm") or (
            "/usr/share/swtpm/swtpm-localca"
        )
        return {
            "setup.conf": (
                f"create_certs_tool = {tool}\n"
                f"create_certs_tool_config = {self._folder / 'localca.conf'}\n"
                f"create_certs_tool_options = {self._folder / 'localca.options'}\n"
            ),
            "localca.conf": _CA_CONFIG.format(ca=self._maker),
            "localca.options": (
                "--platform-manufacturer sealrun\n--platform-version 1\n--platform-model lab\n"
            ),
        }

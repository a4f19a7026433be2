"""A TPM 2.0 in software for a node of its own: made once, served over a unix socket.

The same seeds and certificates as a chip would have, from a maker that exists only here; whoever
reads its folder has its keys. It is a simulated part and says so: its model begins with "SW".
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

from nodeclient.machine.lab.tpm import SoftwareTpm

_START_SECONDS = 30.0


class ServedTpm:
    """One TPM in ``folder``; several may share a ``maker``. A process that ends with ``stop``."""

    def __init__(self, folder: Path, maker: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._tpm = SoftwareTpm(self._folder, maker)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        """How tpm2-tss reaches it."""
        return f"swtpm:path={self._socket}"

    @property
    def certificates(self) -> tuple[Path, Path]:
        """The maker's root and issuing certificate (PEM)."""
        return self._tpm.certificates

    def make(self) -> None:
        """Manufacture it, unless it is there. Raises MachineError."""
        if not self._tpm.made:
            self._tpm.make()

    def start(self) -> None:
        """Power on and start up; wait until it listens."""
        control = self._socket.with_name("s.ctrl")
        for path in (self._socket, control):
            path.unlink(missing_ok=True)
        with (self._folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder / 'state'}"),
                    *("--server", f"type=unixio,path={self._socket},mode=0600"),
                    *("--ctrl", f"type=unixio,path={control},mode=0600"),
                    *("--flags", "not-need-init,startup-clear"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while not (self._listens(self._socket) and control.exists()):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"swtpm does not serve; read {self._folder / 'serve.log'}")
            time.sleep(0.01)

    def freeze(self) -> None:
        """It takes commands and answers none."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Cut its power. Harmless twice."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    @property
    def running(self) -> bool:
        """Whether it has power."""
        return self._process is not None and self._process.poll() is None

    @property
    def _socket(self) -> Path:
        return self._folder / "s"  # short: a socket's path has 107 characters at most

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    @staticmethod
    def _listens(path: Path) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return True
        return False

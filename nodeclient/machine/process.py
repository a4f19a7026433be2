"""The Agent as a process of its own on this host: installed, measured, started, switched off."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from agent.boot import BootParameters
from nodeclient.errors import MachineError
from nodeclient.machine.measure import agent_folder, measure_agent
from nodeclient.machine.pidfile import PidFile
from nodeclient.machine.power import forget_machine, kill_process, started_at


class AgentProcess:
    """The one process of the Machine in `folder`, whoever started it."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self._folder, self._socket = folder.absolute(), socket
        self._child: subprocess.Popen[bytes] | None = None
        self._noted = PidFile(self._folder / "agent.pid")
        self.pid, self.started = 0, 0

    @property
    def scratch(self) -> Path:
        """Where the Agent mounts its RAM disks."""
        return self._folder / "scratch"

    @property
    def label(self) -> str:
        """What marks this Machine's containers."""
        return hashlib.sha256(str(self._folder).encode()).hexdigest()[:24]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        if self._child is not None:
            self._child.poll()  # collects it, if it ended
        return self.pid > 0 and started_at(self.pid) == self.started

    def install(self) -> bytes:
        """Copy the Agent and measure the copy, which is what boots: its digest (32 bytes)."""
        boot = self._folder / "boot"
        shutil.rmtree(boot, ignore_errors=True)
        boot.mkdir(parents=True, mode=0o700)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(agent_folder(), boot / "agent", ignore=ignored)
        return measure_agent(boot / "agent")

    def start(self, boot: BootParameters) -> None:
        """Start what `install` copied, with nothing of ours but a pipe for the parameters."""
        with (self._folder / "agent.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-B", "-E", "-s", "-m", "agent"],
                cwd=self._folder / "boot",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a PC does not go off when its Pi's daemon does
            )
        self._child = child
        self.pid, self.started = self._noted.note(child.pid)
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(boot.encode())

    def adopt(self, pid: int, started: int) -> None:
        """Take over a process that an earlier daemon started. Raises MachineError if it is gone."""
        if started_at(pid) != started:
            raise MachineError("the Machine went off meanwhile", "boot it again")
        if pid != self.pid:
            self._child = None
        self.pid, self.started = pid, started

    def is_newest(self, pid: int, started: int) -> bool:
        """Whether no boot came after that process's, as far as the pid file says."""
        return (pid, started) == self._noted.read()

    def cut(self) -> None:
        """Cut the power: the process and all that a PC would have held in RAM are gone after it.

        Also of an earlier daemon's process that nobody remembers but the pid file.
        """
        for pid, started in {(self.pid, self.started), self._noted.read()}:
            if pid:
                kill_process(pid, started)
        if self._child is not None:
            self._child.wait(timeout=60)
        self._child, self.pid, self.started = None, 0, 0
        if self._noted.exists or self.scratch.exists():
            forget_machine(self.scratch, self._socket, self.label)
            self._noted.forget()

    def last_words(self) -> str:
        """The last line of the Agent's log."""
        try:
            lines = (self._folder / "agent.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1][:160] if lines else "it logged nothing"

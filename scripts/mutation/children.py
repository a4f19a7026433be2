"""Forked children, each with a folder of its own; with them ends all that they left behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

# CPU seconds after which a child ends: it loops, or makes the tests hopelessly slow.
CPU_SECONDS: Final = 600
_OUT_OF_TIME: Final = (signal.SIGKILL, signal.SIGXCPU)
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A child's answer, empty if it has none, and how long it took in seconds."""

    pid: int
    result: Result
    out_of_time: bool
    seconds: float


class Children:
    """Entered, it starts children; left, whatever the reason, none of them runs and none of their
    folders stands: a child that is killed cannot tidy up."""

    def __init__(self) -> None:
        self._folder = Path()
        self._running: dict[int, tuple[Path, float]] = {}

    def __enter__(self) -> Children:
        self._folder = Path(tempfile.mkdtemp(prefix="sealrun-mutants-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        shutil.rmtree(self._folder)

    def start(self, work: Callable[[Path], Result]) -> int:
        """Fork; ``work`` gets the child's folder. Returns the process id."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        pid = os.fork()
        if pid:
            self._running[pid] = (folder, time.monotonic())
            return pid
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            answer = work(folder)
            (folder / "answer").write_text(json.dumps(answer))
            code = 0
        finally:
            os._exit(code)

    def wait(self) -> Ended:
        """The next child that ends."""
        pid, status = os.wait()
        folder, began = self._running.pop(pid)
        answer = folder / "answer"
        told = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        result = dict(json.loads(answer.read_text())) if told else {}
        shutil.rmtree(folder)
        out_of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) in _OUT_OF_TIME
        return Ended(pid, result, out_of_time, time.monotonic() - began)

"""Runs one container to its end, whatever the function does.

The time limit is the Agent's own: nothing inside the container can move it. The result says how the
run ended; what the function printed is dropped, because only /capsule/out has receivers.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

from docker.errors import DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

from agent.engine import Engine, EngineFailed
from agent.formats.outcome import Ending
from agent.formats.taskspec import TaskSpec

_KILL_SECONDS = 20.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended. `exit_code` only if it RAN; `seconds` rounded up."""

    ending: Ending
    exit_code: int | None
    seconds: int


class Runner:
    """One container of one TaskSpec. `run` blocks: call it from a thread; `stop` from any other."""

    def __init__(self, engine: Engine, spec: TaskSpec, settings: dict[str, Any]) -> None:
        self._engine, self._spec, self._settings = engine, spec, settings
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the run early: `run` then returns STOPPED."""
        self._stopped.set()

    def run(self) -> Run:
        """Create, start, wait within the limit, kill if need be.

        Never raises for what the function or the engine did. The ended container stays until the
        task is erased, so that Evidence taken meanwhile shows under which settings it ran.
        """
        begun = time.monotonic()
        try:
            container = self._engine.create(
                self._spec.runtime_image, list(self._spec.command), self._settings
            )
        except EngineFailed:
            return Run(Ending.NOT_STARTED, None, 0)
        try:
            container.start()
            ending, code = self._wait(container)
        except (DockerException, RequestException):
            ending, code = Ending.NOT_STARTED, None
        return Run(ending, code, math.ceil(time.monotonic() - begun))

    def _wait(self, container: Container) -> tuple[Ending, int | None]:
        deadline = time.monotonic() + self._spec.limits.seconds
        while (state := self._state(container))["Running"]:
            if self._stopped.is_set() or time.monotonic() > deadline:
                self._kill(container)
                return (Ending.STOPPED if self._stopped.is_set() else Ending.TIMEOUT), None
            self._stopped.wait(_POLL_SECONDS)
        if state["OOMKilled"]:
            return Ending.OUT_OF_MEMORY, None
        return Ending.RAN, int(state["ExitCode"]) & 0xFF

    def _kill(self, container: Container) -> None:
        """SIGKILL to all its processes; a fork bomb ends with its process namespace."""
        with contextlib.suppress(DockerException):
            container.kill()
        deadline = time.monotonic() + _KILL_SECONDS
        while self._state(container)["Running"] and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _state(self, container: Container) -> dict[str, Any]:
        container.reload()
        state: dict[str, Any] = container.attrs["State"]
        return state

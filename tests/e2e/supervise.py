"""Bounded waiting, other daemons for a while, and functions that run until they are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import docker
from docker.errors import APIError, NotFound

from scripts.embedded.node import MODULE, NodeProcess

Answer = TypeVar("Answer")

UNTIL_TOLD = """
import signal, time
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
while not told:
    time.sleep(0.05)
"""
"""Lines of a function that wait for ``tell``: a function that sleeps ends in the middle of a test
on a slow computer."""


def until(condition: Callable[[], Answer], what: str, seconds: float = 300) -> Answer:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return found


def restart(nodes: Sequence[NodeProcess], module: Sequence[str] = MODULE, *words: str) -> None:
    """Stop some nodes, all at once, and start them again as another daemon or with other words."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(NodeProcess.stop, nodes))
    for node in nodes:
        node.start(module, *words)
    for node in nodes:
        node.wait()


def tell(containers: Iterable[str]) -> None:
    """Let the functions in containers go on, and wait until they have ended."""
    engine = docker.from_env()

    def ended(container: str) -> bool:
        # Again and again: before it listens, the first process of a container ignores a signal.
        try:
            engine.api.kill(container, "SIGUSR1")
        except NotFound:
            return True
        except APIError as error:
            if error.status_code == 409:  # it is not running
                return True
            raise
        return False

    try:
        for container in containers:
            until(lambda container=container: ended(container), "the function ends")  # type: ignore[misc]
    finally:
        engine.close()

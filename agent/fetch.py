"""Gets the boot parameters from the Pi, and then becomes the Agent.

The parameters hold the boot's secrets. This process asks for them, once, puts them into a pipe and
replaces itself by the Agent, which reads them from there: no other process ever has them, and the
memory they passed through is given back, zeroed, by the `exec`.

The Pi is also this Machine's only clock. Whether certificates of the cable are valid hangs on it,
and nothing that an owner relies on.
"""

from __future__ import annotations

import fcntl
import http.client
import logging
import os
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from agent.boot import MAX_BOOT
from agent.capabilities import SYS_TIME, drop
from agent.formats.netboot import HTTP_PORT, PARAMETERS_PATH, PI_ADDRESS

_log = logging.getLogger("agent")
SECONDS = 20.0
_EARLIEST, _LATEST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class FetchFailed(Exception):
    """The Pi gave no parameters. It gives them once per boot: there is no second try."""


def main() -> int:
    """Fetch, set the clock, become the Agent. Returns only if that failed."""
    try:
        parameters, date = fetch()
        time.clock_settime(time.CLOCK_REALTIME, read_date(date))
        drop(SYS_TIME)  # nobody sets it again: what the Agent says of it stays comparable
        become_agent(parameters)
    except (FetchFailed, OSError) as error:
        _log.error("no boot parameters (%s); cut the power", error)
    return 1


def fetch(host: str = PI_ADDRESS, port: int = HTTP_PORT) -> tuple[bytes, str]:
    """(parameters, `Date` of the answer). Raises FetchFailed."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", PARAMETERS_PATH)
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise FetchFailed(f"the Pi answered {answer.status}; somebody may have asked before")
        parameters = answer.read(MAX_BOOT + 1)
    except (OSError, http.client.HTTPException) as error:
        raise FetchFailed(f"the Pi does not answer: {type(error).__name__}") from error
    finally:
        connection.close()
    if not 0 < len(parameters) <= MAX_BOOT:
        raise FetchFailed("the Pi's answer is empty or too large")
    if answer.length:  # what Content-Length promised and did not come
        raise FetchFailed("the Pi's answer ends early")
    return parameters, answer.getheader("Date") or ""


def read_date(text: str) -> float:
    """Seconds since the epoch of an HTTP date (RFC 9110, §5.6.7). Raises FetchFailed."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError) as error:
        raise FetchFailed("the Pi's answer has no date") from error
    if date.tzinfo is None or not _EARLIEST <= date < _LATEST:
        raise FetchFailed("the Pi's clock is wrong; set it")
    return date.timestamp()


def become_agent(parameters: bytes) -> None:
    """Replace this process by the Agent, with `parameters` on its standard input."""
    source, sink = os.pipe()
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, MAX_BOOT)  # all of it fits: nobody reads yet
    os.write(sink, parameters)
    os.close(sink)
    os.dup2(source, 0)
    os.execv(sys.executable, [sys.executable, "-I", "-B", "-m", "agent"])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())

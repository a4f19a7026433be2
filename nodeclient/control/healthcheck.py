"""``python -m nodeclient.control.healthcheck FOLDER``: does the daemon of this node answer?

The engine asks every quarter of a minute, so it imports next to nothing: the command line would
cost a Pi seconds of processor time for each answer. It asks for the picture, which is there without
the chain, too: an endpoint that is down is a fault of the node, and no fault of its container.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nodeclient.control.client import ControlClient
from nodeclient.errors import SealrunError

SECONDS = 10.0


def main(words: list[str]) -> int:
    """0: it answers; 1: it does not, with the reason on stderr; 2: no folder was named."""
    if len(words) != 1:
        sys.stderr.write("name one node folder; python -m nodeclient.control.healthcheck /node\n")
        return 2
    try:
        ControlClient(Path(words[0]), SECONDS).get("/v1/health")
    except SealrunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

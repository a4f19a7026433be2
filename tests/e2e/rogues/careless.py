"""An owner that consents to whatever its policy permits, without a look at its own Capsules:
``python -m tests.e2e.rogues.careless <folder>``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nodeclient import daemon
from nodeclient.config.node import load_config
from nodeclient.duties import services

if __name__ == "__main__":
    vars(services)["faults"] = lambda *_: ()
    asyncio.run(daemon.run_daemon(load_config(Path(sys.argv[1]))))

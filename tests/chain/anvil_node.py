"""An anvil of one's own that can be killed, restarted from its state file, and reorganised."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from scripts.anvil_process import start_anvil, stop_anvil
from scripts.embedded.site import free_port

# The first accounts of anvil's public mnemonic "test test … junk": worthless outside of tests.
KEYS = tuple(
    bytes.fromhex(key)
    for key in (
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    )
)


class AnvilNode:
    """One anvil process on a loopback port that stays the same over restarts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._state = folder / "anvil-state.json"
        self._options = options
        # Not the kernel's choice: while it restarts, tests in other processes connect and listen.
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.height_when_stopped = 0

    def start(self) -> None:
        """Start, from the state file if there is one."""
        options = ["--state", str(self._state), "--state-interval", "1", *self._options]
        self._process, self.url = start_anvil(*options, port=self._port)

    def stop(self) -> None:
        """SIGTERM: the state is written in full."""
        if self._process is not None:
            self.height_when_stopped = self.height()
            stop_anvil(self._process)
            self._process = None

    def rpc(self, method: str, *params: Any) -> Any:
        """A raw JSON-RPC call, apart from the code under test."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        request = urllib.request.Request(
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']}")
        return found["result"]

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        for done in range(0, blocks, 250):  # a long request would outlast its timeout
            self.rpc("anvil_mine", hex(min(250, blocks - done)))

    def height(self) -> int:
        """The number of the latest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def wait_for_pending(self, count: int) -> None:
        """Wait until the mempool holds so many transactions."""
        end = time.monotonic() + 180
        while int(self.rpc("txpool_status")["pending"], 16) < count:
            assert time.monotonic() < end, "the mempool did not fill"
            time.sleep(0.02)

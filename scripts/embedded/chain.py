"""An anvil of one's own: started on a loopback port, stopped by its process id, state kept."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 20
LISTENING = re.compile(r"Listening on (127\.0\.0\.1:\d+)")
# The first account of anvil's public mnemonic: worthless anywhere else.
DEPLOYER = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")


def find_anvil() -> str:
    """The binary: from PATH, or what `make setup` put under .build."""
    found = shutil.which("anvil")
    if found is None:
        built = sorted((ROOT / ".build").glob("**/@foundry-rs/anvil-linux-*/bin/anvil"))
        found = str(built[0]) if built else None
    if found is None:
        raise RuntimeError("anvil is not installed; run: make setup")
    return found


class AnvilChain:
    """One anvil process (osaka). ``block_seconds`` 0: a block per transaction."""

    def __init__(self, state: Path, block_seconds: float = 1.0) -> None:
        self._state = state
        self._block_seconds = block_seconds
        self._process: subprocess.Popen[str] | None = None
        self._held = threading.Event()  # set: nobody but `mine` makes blocks
        self._clock: threading.Thread | None = None
        self.url = ""

    def start(self) -> None:
        """Start and wait until it listens."""
        every = ["--block-time", f"{self._block_seconds:g}"] if self._block_seconds else []
        self._state.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(find_anvil(), "--hardfork", "osaka", "--host", "127.0.0.1", "--port", "0"),
                *("--state", str(self._state), "--state-interval", "5", *every),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we stop it last, so that its state is whole
            env=dict(os.environ),
        )
        self.url = "http://" + self._address()

    def _address(self) -> str:
        """Wait for the line that says where it listens; then drain the rest in the background."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                if found := LISTENING.search(line):
                    threading.Thread(target=process.stdout.read, daemon=True).start()
                    return found[1]
        finally:
            watchdog.cancel()
        raise RuntimeError("anvil did not start; run it by hand to see why")

    def hold(self) -> None:
        """Let no time pass but by `mine`, until `go_on`."""
        self._held.set()
        self.rpc("evm_setIntervalMining", 0)

    def go_on(self) -> None:
        """Blocks come as before. Anvil sets whole seconds only, so they are made here from now."""
        self._held.clear()
        if self._clock is None:
            self._clock = threading.Thread(target=self._tick, daemon=True)
            self._clock.start()

    def _tick(self) -> None:
        while self._process is not None:
            time.sleep(self._block_seconds)
            if not self._held.is_set():
                with contextlib.suppress(OSError, RuntimeError):  # it is being stopped
                    self.mine(1)

    def stop(self) -> None:
        """SIGTERM: the state is written in full."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def rpc(self, method: str, *params: Any) -> Any:
        """A raw JSON-RPC call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        request = urllib.request.Request(  # noqa: S310  (a loopback URL of our own)
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            parsed = json.load(answer)
        if "error" in parsed:
            raise RuntimeError(f"{method}: {parsed['error'].get('message')}")
        return parsed["result"]

    def height(self) -> int:
        """The latest block's number."""
        return int(self.rpc("eth_blockNumber"), 16)

    def mine(self, blocks: int) -> None:
        """Let time pass."""
        self.rpc("anvil_mine", hex(blocks))

    def fund(self, account: str, wei: int) -> None:
        """Give an account ether."""
        self.rpc("anvil_setBalance", account, hex(wei))

    def wait_for(self, height: int, seconds: float = 60) -> None:
        """Wait until a block is there."""
        end = time.monotonic() + seconds
        while self.height() < height:
            if time.monotonic() > end:
                raise RuntimeError("the chain stands still; look at anvil")
            time.sleep(0.05)

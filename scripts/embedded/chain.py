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
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from scripts.embedded.site import LOOPBACK

ROOT = Path(__file__).resolve().parents[2]
# Of so many blocks anvil keeps the state, in memory; else it leaves gigabytes in the home folder.
KEPT_STATES: Final = "256"
START_SECONDS = 60
KEEP_UP_SECONDS = 10  # somebody who is behind for longer costs so much per block, and no more
LISTENING = re.compile(r"Listening on (\d+\.\d+\.\d+\.\d+:\d+)")
# No answer, a half one, or an error: the next block is tried all the same, or time would stop.
_NO_ANSWER = (OSError, HTTPException, ValueError, RuntimeError)
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
    """One anvil process (osaka), whose blocks are made here: one every ``block_seconds``.

    ``kept_up(height)`` tells whether all who read along are done with that block: the next one is
    not made before. A real chain gives minutes for what is done here in seconds, so a busy computer
    would miss deadlines that are counted in blocks.
    """

    def __init__(
        self,
        state: Path,
        block_seconds: float,
        kept_up: Callable[[int], bool] = lambda _: True,
        host: str = LOOPBACK,
    ) -> None:
        self._state = state
        self._host = host
        self._block_seconds = block_seconds
        self._kept_up = kept_up
        self._process: subprocess.Popen[str] | None = None
        self._mining = threading.Lock()  # whoever holds it makes the blocks
        self._over = threading.Event()
        self._clock: threading.Thread | None = None
        self.url = ""

    def start(self) -> None:
        """Start and wait until it listens."""
        self._state.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(find_anvil(), "--hardfork", "osaka", "--host", self._host, "--port", "0"),
                *("--state", str(self._state), "--state-interval", "5", "--no-mining"),
                *("--prune-history", KEPT_STATES),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we stop it last, so that its state is whole
            env=dict(os.environ),
        )
        self.url = "http://" + self._address()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def _address(self) -> str:
        """Wait for the line that says where it listens; then drain the rest in the background."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.daemon = True  # an interruption before `try` must not hold up our end
        watchdog.start()
        try:
            for line in process.stdout:
                if found := LISTENING.search(line):
                    threading.Thread(target=process.stdout.read, daemon=True).start()
                    return found[1]
        finally:
            watchdog.cancel()
        raise RuntimeError("anvil did not start; run it by hand to see why")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No time passes but by ``mine``."""
        with self._mining:
            yield

    def _tick(self) -> None:
        while not self._over.wait(self._block_seconds):
            with contextlib.suppress(*_NO_ANSWER):  # anvil is too busy
                end = time.monotonic() + KEEP_UP_SECONDS
                while not self._kept_up(self.height()) and time.monotonic() < end:
                    if self._over.wait(0.05):
                        return
                with self._mining:
                    self.mine(1)

    def stop(self) -> None:
        """SIGTERM: the state is written in full."""
        if self._process is None:
            return
        self._over.set()
        if self._clock is not None:
            self._clock.join()
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
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
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            parsed = json.load(answer)
        if "error" in parsed:
            raise RuntimeError(f"{method}: {parsed['error'].get('message')}")
        return parsed["result"]

    def height(self) -> int:
        """The latest block's number."""
        return int(self.rpc("eth_blockNumber"), 16)

    def mine(self, blocks: int) -> None:
        """Let time pass, whoever has kept up."""
        self.rpc("anvil_mine", hex(blocks))

    def waiting(self) -> int:
        """How many transactions wait for the next block."""
        return int(self.rpc("txpool_status")["pending"], 16)

    def fund(self, account: str, wei: int) -> None:
        """Give an account ether."""
        self.rpc("anvil_setBalance", account, hex(wei))

    def wait_for(self, height: int, seconds: float = 180) -> None:
        """Wait until a block is there."""
        end = time.monotonic() + seconds
        while self.height() < height:
            if time.monotonic() > end:
                raise RuntimeError("the chain stands still; look at anvil")
            time.sleep(0.05)

"""An anvil of one's own: started on a loopback port, stopped by its process id, state kept."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from scripts.anvil_process import start_anvil, stop_anvil
from scripts.embedded.site import LOOPBACK

ROOT = Path(__file__).resolve().parents[2]
KEEP_UP_SECONDS = 10  # somebody who is behind for longer costs so much per block, and no more
# No answer, a half one, or an error: the next block is tried all the same, or time would stop.
_NO_ANSWER = (OSError, HTTPException, ValueError, RuntimeError)
# The first account of anvil's public mnemonic: worthless anywhere else.
DEPLOYER = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")


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
        # Ctrl-C is for us: we stop it last, so that its state is whole
        self._process, self.url = start_anvil(
            *("--state", str(self._state), "--state-interval", "5", "--no-mining"),
            host=self._host,
            own_session=True,
        )
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

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
        stop_anvil(self._process)
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

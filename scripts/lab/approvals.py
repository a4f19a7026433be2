"""The rig's chain: a real `ImageRegistry` on an anvil, and the account that owns it."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final

from nodeclient.chain import images
from nodeclient.chain.deploy import deploy
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.images import ImageKind
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.presets import PRESETS
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.ports import Order
from scripts.embedded.chain import DEPLOYER, AnvilChain

HOUR, YEAR = 3600, 365 * 24 * 3600
BLOCK_SECONDS: Final = 0.2


class Approvals:
    """`start`, then approve and revoke. Its coroutines may run in any station that reaches it."""

    def __init__(self, folder: Path, host: str) -> None:
        self._chain = AnvilChain(folder / "anvil.json", BLOCK_SECONDS, host=host)
        self._numbers = itertools.count()
        self.deployment: Deployment

    def start(self) -> None:
        """Start the chain, in the namespace of this thread."""
        self._chain.start()

    def stop(self) -> None:
        """End the chain."""
        self._chain.stop()

    @property
    def url(self) -> str:
        """Where the chain answers."""
        return self._chain.url

    async def deploy(self) -> None:
        """The contracts."""
        rpc = Rpc(self._chain.url)
        try:
            self.deployment = await deploy(rpc, DEPLOYER, PRESETS["anvil"], "anvil")
        finally:
            await rpc.close()

    async def approve(self, image: bytes, kind: ImageKind) -> None:
        """Approve an image for a year, from now on."""
        now = int(time.time())
        window = now - HOUR, now + YEAR
        await self._send(images.approve(self._key(), image, kind, bytes(20), *window))

    async def revoke(self, image: bytes) -> None:
        """Revoke it, at once."""
        await self._send(images.revoke(self._key(), image))

    async def snapshot(self) -> str:
        """This moment's name, for `restore`: what was revoked can never be approved again."""
        return str(self._chain.rpc("evm_snapshot"))

    async def restore(self, moment: str) -> None:
        """Undo all that was sent since."""
        self._chain.rpc("evm_revert", moment)

    async def is_approved(self, image: bytes, kind: ImageKind) -> bool:
        """What the chain says now."""
        rpc = Rpc(self._chain.url)
        try:
            return await Reader(rpc, self.deployment).is_approved(image, kind)
        finally:
            await rpc.close()

    def _key(self) -> str:
        return f"rig-{next(self._numbers)}"

    async def _send(self, order: Order) -> None:
        rpc = Rpc(self._chain.url)
        try:
            settings = SendSettings(poll_seconds=0.05)
            journal = SqliteJournal(":memory:")
            await Sender(rpc, self.deployment, journal, DEPLOYER, settings).execute(order)
        finally:
            await rpc.close()

"""What a daemon holds in memory is gone once its root was opened: every copy, overwritten."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import Address
from nodeclient.errors import RootLost
from nodeclient.identity.keys import NodeKeys
from nodeclient.memory import Secret
from nodeclient.roots.software import SoftwareRoot
from nodeclient.upkeep.rootguard import root_guard


def secrets() -> list[Secret]:
    """All that this process has in memory and has not overwritten."""
    return [each for each in gc.get_objects() if isinstance(each, Secret) and not each.wiped]


class Several(list[Secret]):
    """By identity: two secrets are equal if their content is."""

    def __contains__(self, one: object) -> bool:
        return any(each is one for each in self)


async def nothing() -> None:
    """No work, no Machine."""


async def test_breach__every_secret_of_the_daemon__is_overwritten(tmp_path: Path) -> None:
    others = Several(secrets())  # of other tests in this process
    root = SoftwareRoot.create(tmp_path / "root", tmp_path / "passphrase")
    keys = NodeKeys.create(root, tmp_path)
    again = NodeKeys.load(root, tmp_path)  # as `daemon.node` and `daemon.build_services` have one
    sender = Sender(Rpc("http://127.0.0.1:9"), SimpleNamespace(), SimpleNamespace(), keys.account)  # type: ignore[arg-type]
    held = [each for each in secrets() if each not in others]
    assert len(held) == 4 + 4 + 1 + 1, "both bundles, the sender's key, the root's"

    async def gone(_: Address) -> None:
        """No Node stands under this account: there is nothing to pause."""

    services: Any = SimpleNamespace(
        root=root,
        me=SimpleNamespace(address=Address(keys.address)),
        chain=SimpleNamespace(node=gone),
        sender=sender,
        keys=again,
        machine=SimpleNamespace(cut=nothing),
        report=lambda _: None,
    )
    runner: Any = SimpleNamespace(stop=nothing)
    config: Any = SimpleNamespace(root=SimpleNamespace(health_seconds=5.0))
    guard = root_guard(config, services, runner, keys)
    with pytest.raises(RootLost):
        await guard.end(RootHealth(False, True, "perimeter breached"))
    assert [each for each in held if not each.wiped] == []

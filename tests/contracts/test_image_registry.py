"""Approved images on titanoboa: timelock, window, revocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import boa
import pytest

from tests.contracts.anvil import ROOT

TIMELOCK: Final = 3600
IMAGE: Final = b"\x01" * 32
COMMIT: Final = b"\x02" * 20
BOOT, SERVICE, RUNTIME = 1, 2, 3
# The one view of the registry that `report_load` asks.
REGISTRY: Final = """
# pragma version 0.4.3
node_id: public(HashMap[address, uint256])

@external
def register():
    self.node_id[msg.sender] = 1
"""


@pytest.fixture(scope="module")
def registry_code() -> Any:
    return boa.loads_partial(REGISTRY)


@pytest.fixture(scope="module")
def images_code() -> Any:
    return boa.load_partial(str(ROOT / "contracts" / "ImageRegistry.vy"))


@pytest.fixture
def registry(registry_code: Any) -> Iterator[Any]:
    with boa.env.anchor():
        yield registry_code.deploy()


@pytest.fixture
def images(images_code: Any, registry: Any) -> Any:
    return images_code.deploy(registry.address, TIMELOCK)


def now() -> int:
    return int(boa.env.evm.patch.timestamp)


def approve(images: Any, kind: int = BOOT, image: bytes = IMAGE, days: int = 10) -> None:
    images.approve(image, kind, COMMIT, now(), now() + days * 86400)


def test_approve__timelock__counts_only_after_it(images: Any) -> None:
    approve(images)
    assert not images.is_approved(IMAGE)
    boa.env.time_travel(seconds=TIMELOCK - 1)
    assert not images.is_approved(IMAGE)
    boa.env.time_travel(seconds=1)
    assert images.is_approved(IMAGE)
    assert images.image(IMAGE).kind == BOOT
    assert images.image(IMAGE).source_commit == COMMIT


def test_approve__window__not_before_and_not_after(images: Any) -> None:
    images.approve(IMAGE, BOOT, COMMIT, now() + 9000, now() + 9100)
    boa.env.time_travel(seconds=8999)
    assert not images.is_approved(IMAGE)
    boa.env.time_travel(seconds=1)
    assert images.is_approved(IMAGE)
    boa.env.time_travel(seconds=100)
    assert images.is_approved(IMAGE)  # the last second belongs to it
    boa.env.time_travel(seconds=1)
    assert not images.is_approved(IMAGE)


def test_approve_revoke__say_all_that_counts(images: Any) -> None:
    start, end = now(), now()  # a window of one second is one
    images.approve(IMAGE, RUNTIME, COMMIT, start, end)
    (event,) = images.get_logs()
    assert (event.image, event.kind, event.source_commit) == (IMAGE, RUNTIME, COMMIT)
    assert (event.not_before, event.not_after) == (start, end)
    assert event.effective_at == start + TIMELOCK
    stored = images.image(IMAGE)
    assert (stored.not_before, stored.not_after, stored.effective_at) == (
        start, end, start + TIMELOCK
    )  # fmt: skip
    images.revoke(IMAGE)
    (event,) = images.get_logs()
    assert event.image == IMAGE
    assert images.image(IMAGE).revoked


def test_revoke__at_once_and_for_good(images: Any) -> None:
    approve(images)
    boa.env.time_travel(seconds=TIMELOCK)
    images.revoke(IMAGE)
    assert not images.is_approved(IMAGE)
    with boa.reverts("images: image was revoked"):
        approve(images)
    with boa.reverts("images: image was revoked"):
        images.revoke(IMAGE)


def test_approve__twice__reverts(images: Any) -> None:
    approve(images)
    with boa.reverts("images: image already approved"):
        approve(images, SERVICE)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((bytes(32), BOOT, COMMIT, 0, 2**40), "images: image is empty"),
        ((IMAGE, 0, COMMIT, 0, 2**40), "images: unknown kind"),
        ((IMAGE, 4, COMMIT, 0, 2**40), "images: unknown kind"),
        ((IMAGE, BOOT, COMMIT, 9, 8), "images: window is empty"),
        ((IMAGE, BOOT, COMMIT, 0, 1), "images: window is over"),
    ],
)
def test_approve__bad_input__reverts(images: Any, arguments: tuple[Any, ...], reason: str) -> None:
    with boa.reverts(reason):
        images.approve(*arguments)


def test_approve_revoke_renounce__outsider__reverts(images: Any) -> None:
    approve(images)
    with boa.env.prank(boa.env.generate_address("outsider")):
        with boa.reverts("images: only the owner"):
            approve(images, image=b"\x09" * 32)
        with boa.reverts("images: only the owner"):
            images.revoke(IMAGE)
        with boa.reverts("images: only the owner"):
            images.renounce()


def test_renounce__nobody_can_approve_any_more(images: Any) -> None:
    images.renounce()
    with boa.reverts("images: only the owner"):
        approve(images)


def test_revoke__unknown__reverts(images: Any) -> None:
    with boa.reverts("images: unknown image"):
        images.revoke(IMAGE)


def test_report_load__node_and_approved_service__logged(images: Any, registry: Any) -> None:
    approve(images, SERVICE)
    boa.env.time_travel(seconds=TIMELOCK)
    with boa.reverts("images: only a node"):
        images.report_load(IMAGE)
    registry.register()
    images.report_load(IMAGE)
    (event,) = images.get_logs()
    assert (event.node, event.image) == (boa.env.eoa, IMAGE)


def test_report_load__not_approved_or_runtime__reverts(images: Any, registry: Any) -> None:
    registry.register()
    approve(images, RUNTIME)
    with boa.reverts("images: image not approved"):
        images.report_load(IMAGE)
    boa.env.time_travel(seconds=TIMELOCK)
    with boa.reverts("images: a runtime load is not reported"):
        images.report_load(IMAGE)


def test_deploy__bounds__of_registry_and_timelock(images_code: Any, registry: Any) -> None:
    assert images_code.deploy(registry.address, 2**32 - 1).timelock() == 2**32 - 1
    with boa.reverts("images: timelock out of range"):
        images_code.deploy(registry.address, 2**32)
    with boa.reverts("images: registry is not a contract"):
        images_code.deploy(boa.env.generate_address(), TIMELOCK)

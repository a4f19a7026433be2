"""Each reason of the verdict by itself: what brings it about, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nodeclient.core.health import (
    GuardPart,
    ImagePart,
    PeerPart,
    Picture,
    RootPart,
    Standing,
    Use,
    standing_of,
)
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import NodeStatus, RootClass
from nodeclient.core.verdict import NEXT_OF, Bounds, Fault, Notice, healthy, judge
from tests.health.kit import BOOT, CHAIN, NOW, PICTURE, UNIT, YEAR, image_record, registered

USUAL = Bounds()


def codes(picture: Picture, bounds: Bounds = USUAL) -> set[str]:
    return {remark.code.value for remark in judge(picture, bounds)}


def chain(**changes: Any) -> Picture:
    return replace(PICTURE, chain=replace(CHAIN, **changes))


def root(usable: bool, tampered: bool) -> Picture:
    health = RootHealth(usable, tampered, "the lid is open")
    return replace(PICTURE, root=RootPart(RootClass.ZYMKEY, False, health))


def image(use: Use, standing: Standing | None, ends_at: int = NOW + YEAR) -> Picture:
    return replace(PICTURE, images=(ImagePart(use, BOOT, standing, ends_at),))


FAULTS: list[tuple[Fault, Picture]] = [
    (Fault.DAEMON_STOPPED, replace(PICTURE, started_at=None)),
    (Fault.ROOT_UNUSABLE, root(False, False)),
    (Fault.ROOT_TAMPERED, root(True, True)),
    (Fault.CHAIN_UNREACHABLE, replace(PICTURE, chain=None)),
    (Fault.CHAIN_STALE, chain(head_at=NOW - 121)),
    (Fault.CHAIN_BEHIND, chain(applied=989)),
    (Fault.NOT_REGISTERED, chain(registry=None)),
    (Fault.NOT_ACTIVE, registered(status=NodeStatus.PAUSED)),
    (Fault.NOT_ACTIVE, registered(status=NodeStatus.BARRED)),
    (Fault.DEPOSIT_LOW, registered(deposit=UNIT - 1)),
    (Fault.MACHINE_BANNED, replace(PICTURE, machine=replace(PICTURE.machine, banned=True))),
    (Fault.IMAGE_NOT_APPROVED, image(Use.BOOT, Standing.REVOKED)),
    (Fault.IMAGE_NOT_APPROVED, image(Use.ERASER, Standing.UNKNOWN, 0)),
    (Fault.IMAGE_NOT_APPROVED, image(Use.SERVICE, Standing.ENDED, NOW - 1)),
    (Fault.SERVICES_UNWATCHED, replace(PICTURE, guard=GuardPart(997))),
    (Fault.SERVICES_UNWATCHED, replace(PICTURE, guard=GuardPart(1_003))),
    (Fault.SERVICES_UNWATCHED, replace(chain(head=1, applied=1), guard=GuardPart(0))),
]
NOTICES: list[tuple[Notice, Picture]] = [
    (Notice.IMAGE_ENDS_SOON, image(Use.BOOT, Standing.APPROVED, NOW + 13 * 86_400)),
    (Notice.PEERS_UNREACHABLE, replace(PICTURE, peers=PeerPart(7, 7, 0))),
    (Notice.PEER_FINDINGS, replace(PICTURE, peers=PeerPart(7, 7, 6, findings=1))),
]


def test_healthy_picture__no_remark() -> None:
    assert judge(PICTURE) == ()


@pytest.mark.parametrize(("fault", "picture"), FAULTS)
def test_fault__its_cause_alone__only_this_one_and_not_healthy(
    fault: Fault, picture: Picture
) -> None:
    remarks = judge(picture)
    assert {remark.code for remark in remarks} == {fault}
    assert not healthy(remarks)
    assert all(remark.text and remark.next_step for remark in remarks)


@pytest.mark.parametrize(("notice", "picture"), NOTICES)
def test_notice__its_cause_alone__node_stays_healthy(notice: Notice, picture: Picture) -> None:
    remarks = judge(picture)
    assert {remark.code for remark in remarks} == {notice}
    assert healthy(remarks), "what a stranger can cause must not make this node look ill"


def test_table__every_fault_and_notice__is_tested_here() -> None:
    assert {fault for fault, _ in FAULTS} == set(Fault)
    assert {notice for notice, _ in NOTICES} == set(Notice)


@pytest.mark.parametrize(
    "picture",
    [
        chain(head_at=NOW - 120),
        chain(head_at=NOW + 3600),
        chain(applied=990),
        chain(applied=1_001),
        chain(applied=None),
        registered(deposit=UNIT),
        replace(PICTURE, guard=GuardPart(998)),
        replace(PICTURE, guard=GuardPart(1_002)),
        replace(PICTURE, guard=None),
        image(Use.RUNTIME, Standing.REVOKED),
        image(Use.BOOT, None, 0),
        image(Use.BOOT, Standing.APPROVED, NOW + 15 * 86_400),
        replace(PICTURE, peers=PeerPart(7, 0, 0)),
        replace(PICTURE, peers=PeerPart(7, 7, 1)),
        replace(PICTURE, peers=None, tasks=None),
        replace(registered(status=NodeStatus.PAUSED, deposit=0), drawable=False),
    ],
)
def test_no_fault__at_the_bound_or_unknown__no_remark(picture: Picture) -> None:
    assert judge(picture) == ()


def test_bounds__the_operators__count() -> None:
    strict = Bounds(head_age=2.0, behind=0)
    assert codes(chain(applied=999), strict) == {"chain-stale", "chain-behind"}


def test_daemon_stopped__blocks_not_applied__are_no_second_fault() -> None:
    stopped = replace(PICTURE, started_at=None, chain=replace(CHAIN, applied=1))
    assert codes(stopped) == {"daemon-stopped"}


def test_tampered_and_unusable__both_are_told() -> None:
    assert codes(root(False, True)) == {"root-tampered", "root-unusable"}


def test_status__every_one_that_is_not_active__has_a_next_step() -> None:
    assert set(NEXT_OF) == set(NodeStatus) - {NodeStatus.ACTIVE}


KIND_BOOT, KIND_RUNTIME = ImageKind.BOOT, ImageKind.RUNTIME


@pytest.mark.parametrize(
    ("record", "standing"),
    [
        (None, Standing.UNKNOWN),
        (image_record(KIND_BOOT, 0, NOW, 0, False), Standing.APPROVED),
        (image_record(KIND_BOOT, NOW, NOW, NOW, False), Standing.APPROVED),
        (image_record(KIND_BOOT, 0, NOW - 1, 0, False), Standing.ENDED),
        (image_record(KIND_BOOT, NOW + 1, NOW + 9, 0, False), Standing.WAITING),
        (image_record(KIND_BOOT, 0, NOW + 9, NOW + 1, False), Standing.WAITING),
        (image_record(KIND_BOOT, 0, NOW, 0, True), Standing.REVOKED),
        (image_record(KIND_RUNTIME, 0, NOW, 0, False), Standing.OTHER_KIND),
    ],
)
def test_standing__as_the_registry_decides(record: ImageRecord | None, standing: Standing) -> None:
    assert standing_of(Use.BOOT, record, NOW) is standing


def test_standing__runtime_image__approved_as_such() -> None:
    record = image_record(KIND_RUNTIME, 0, NOW, 0, False)
    assert standing_of(Use.RUNTIME, record, NOW) is Standing.APPROVED
    assert standing_of(Use.SERVICE, record, NOW) is Standing.OTHER_KIND

"""A healthy picture to change one thing of, and adapters that answer from memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nodeclient.core.health import (
    ChainPart,
    GuardPart,
    ImagePart,
    MachinePart,
    PeerPart,
    Picture,
    RegistryPart,
    RootPart,
    Standing,
    TaskPart,
    Use,
)
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import (
    ZERO_HASH,
    Address,
    BlockRef,
    NodeRecord,
    NodeStatus,
    RootClass,
)
from nodeclient.core.verdict import judge
from nodeclient.health.gather import Sources
from nodeclient.health.service import Reading

NOW = 1_790_000_000
YEAR = 365 * 86_400
ACCOUNT = Address(b"\xab" * 20)
UNIT = 10**18
BOOT, RUNTIME = b"\x01" * 32, b"\x02" * 32
SOUND = RootHealth(True, False, "all well")
REGISTRY = RegistryPart(NodeStatus.ACTIVE, 4 * UNIT, UNIT, 5_210, False)
CHAIN = ChainPart(1_000, NOW - 3, 1_000, REGISTRY)
PICTURE = Picture(
    at=NOW,
    started_at=NOW - 60,
    account=ACCOUNT,
    drawable=True,
    root=RootPart(RootClass.TPM2, False, SOUND),
    chain=CHAIN,
    images=(
        ImagePart(Use.BOOT, BOOT, Standing.APPROVED, NOW + YEAR),
        ImagePart(Use.RUNTIME, RUNTIME, Standing.REVOKED, NOW + YEAR),
    ),
    machine=MachinePart(False, (("stray", 2),)),
    guard=GuardPart(999),
    peers=PeerPart(7, 7, 6),
    tasks=TaskPart((("ADMITTED", 1), ("POSTED", 2)), 37, (("SETTLED", 5),)),
)


def registered(**changes: Any) -> Picture:
    """The picture with another record in the registry."""
    return replace(PICTURE, chain=replace(CHAIN, registry=replace(REGISTRY, **changes)))


def reading(picture: Picture = PICTURE) -> Reading:
    """A picture with its verdict."""
    return Reading(picture, judge(picture))


RECORD = NodeRecord(
    id=1,
    address=ACCOUNT,
    status=NodeStatus.ACTIVE,
    root_class=RootClass.TPM2,
    root_public=bytes(64),
    vrf_public=bytes(33),
    hardware_id=ZERO_HASH,
    attestation_key=ZERO_HASH,
    contact_digest=ZERO_HASH,
    deposit=4 * UNIT,
    tier=2,
    engaged=False,
    fixed_at=1,
)


def image_record(
    kind: ImageKind,
    not_before: int = 0,
    not_after: int = NOW + YEAR,
    effective_at: int = 0,
    revoked: bool = False,
) -> ImageRecord:
    """An entry of the image registry, approved unless said otherwise."""
    return ImageRecord(kind, bytes(20), not_before, not_after, effective_at, revoked)


@dataclass
class FakeChain:
    """A chain that answers from its fields; ``before`` is awaited by every question."""

    record: NodeRecord | None = RECORD
    images: dict[bytes, ImageRecord] = field(
        default_factory=lambda: {BOOT: image_record(ImageKind.BOOT)}
    )
    before: Any = None
    asked: int = 0

    async def _ask(self) -> None:
        self.asked += 1
        if self.before is not None:
            await self.before()

    async def head(self) -> BlockRef:
        await self._ask()
        return BlockRef(1_000, ZERO_HASH, NOW - 3)

    async def node(self, address: Address) -> NodeRecord | None:
        await self._ask()
        assert address == ACCOUNT
        return self.record

    async def reputation(self, address: Address) -> int:
        await self._ask()
        return 5_210

    async def unit(self) -> int:
        await self._ask()
        return UNIT

    async def image(self, image: bytes) -> ImageRecord | None:
        await self._ask()
        return self.images.get(image)


def sources(chain: FakeChain, **changes: Any) -> Sources:
    """Where the healthy picture comes from."""
    values: dict[str, Any] = {
        "account": ACCOUNT,
        "drawable": True,
        "root_class": RootClass.TPM2,
        "simulated": False,
        "root": lambda: SOUND,
        "chain": chain,
        "images": lambda: ((Use.BOOT, BOOT),),
        "applied": lambda: 1_000,
        "machine": lambda: MachinePart(False),
        "guard": lambda: GuardPart(999),
        "peers": lambda: PeerPart(7, 7, 6),
        "tasks": lambda: TaskPart((), 0),
        "started_at": NOW - 60,
    }
    return Sources(**{**values, **changes})

# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Approved images
@license Apache-2.0
@notice Which boot, service and runtime images a verifier may accept, from which source, and when.
@dev    The owner can approve only behind a timelock, so that everybody sees an image before it
        counts, and revoke at once. A revoked image stays revoked. Ownership can be renounced,
        which freezes the list (and lets it run out with the validity windows). The image of a
        RUNTIME is its Docker image id, the digest of its configuration.
"""
from .interfaces import IImageRegistry
from .interfaces import INodeRegistry

implements: IImageRegistry

BOOT: constant(uint8) = 1
SERVICE: constant(uint8) = 2
RUNTIME: constant(uint8) = 3

# The `NodeRegistry`.
REGISTRY: immutable(address)
# Seconds between an approval and its effect.
TIMELOCK: immutable(uint256)

# Who approves and revokes; zero once renounced.
approver: address

images: HashMap[bytes32, IImageRegistry.Image]


@deploy
def __init__(registry_: address, timelock_: uint256):
    """
    @notice Fixes registry and timelock; the deployer is the owner.
    @param registry_ The `NodeRegistry`, whose nodes may report loads.
    @param timelock_ Seconds until an approval takes effect.
    """
    assert registry_.is_contract, "images: registry is not a contract"
    assert timelock_ < 2**32, "images: timelock out of range"
    REGISTRY = registry_
    TIMELOCK = timelock_
    self.approver = msg.sender


@external
def approve(
    image: bytes32, kind: uint8, source_commit: bytes20, not_before: uint64, not_after: uint64
):
    """
    @notice Owner only: approves an image, in effect after the timelock and within its window.
    @param image Its hash (for RUNTIME the Docker image id).
    @param kind 1 BOOT, 2 SERVICE, 3 RUNTIME.
    @param source_commit The commit from which anybody can build it again.
    @param not_before First second of validity (Unix time).
    @param not_after Last second of validity (Unix time).
    """
    assert msg.sender == self.approver, "images: only the owner"
    assert image != empty(bytes32), "images: image is empty"
    assert kind >= BOOT and kind <= RUNTIME, "images: unknown kind"
    assert not_before <= not_after, "images: window is empty"
    assert convert(not_after, uint256) >= block.timestamp, "images: window is over"
    assert not self.images[image].revoked, "images: image was revoked"
    # A second approval would restart the timelock of an image in use, or change its kind.
    assert self.images[image].kind == 0, "images: image already approved"
    effective_at: uint64 = convert(block.timestamp + TIMELOCK, uint64)
    self.images[image] = IImageRegistry.Image(
        kind=kind,
        source_commit=source_commit,
        not_before=not_before,
        not_after=not_after,
        effective_at=effective_at,
        revoked=False,
    )
    log IImageRegistry.ImageApproved(
        image=image,
        kind=kind,
        source_commit=source_commit,
        not_before=not_before,
        not_after=not_after,
        effective_at=effective_at,
    )


@external
def revoke(image: bytes32):
    """
    @notice Owner only: revokes an image, at once and for good.
    @param image Its hash.
    """
    assert msg.sender == self.approver, "images: only the owner"
    assert self.images[image].kind != 0, "images: unknown image"
    assert not self.images[image].revoked, "images: image was revoked"
    self.images[image].revoked = True
    log IImageRegistry.ImageRevoked(image=image)


@external
def report_load(image: bytes32):
    """
    @notice A node states that it booted or started an approved image. A RUNTIME cannot be
            reported: its load would tell which task runs where.
    @param image A BOOT or SERVICE image.
    """
    assert staticcall INodeRegistry(REGISTRY).node_id(msg.sender) != 0, "images: only a node"
    assert self._in_force(image), "images: image not approved"
    assert self.images[image].kind != RUNTIME, "images: a runtime load is not reported"
    log IImageRegistry.ImageLoaded(node=msg.sender, image=image)


@external
def renounce():
    """
    @notice Owner only: gives the ownership up; the list can never change again.
    """
    assert msg.sender == self.approver, "images: only the owner"
    self.approver = empty(address)


@external
@view
def owner() -> address:
    """
    @notice Who approves and revokes images, and has no other power.
    @return The account; zero once it has renounced.
    """
    return self.approver


@external
@view
def registry() -> address:
    """
    @notice The `NodeRegistry`, whose nodes may report loads.
    @return Its address.
    """
    return REGISTRY


@external
@view
def timelock() -> uint256:
    """
    @notice How long an approval waits until it takes effect.
    @return Seconds.
    """
    return TIMELOCK


@external
@view
def is_approved(image: bytes32) -> bool:
    """
    @notice Whether an image may be accepted now.
    @param image Its hash.
    @return True if approved, past the timelock, within its window and not revoked.
    """
    return self._in_force(image)


@external
@view
def image(image: bytes32) -> IImageRegistry.Image:
    """
    @notice What is known of an image.
    @param image Its hash.
    @return The entry; kind 0 if there is none.
    """
    return self.images[image]


@internal
@view
def _in_force(image: bytes32) -> bool:
    entry: IImageRegistry.Image = self.images[image]
    now: uint64 = convert(block.timestamp, uint64)
    return (
        entry.kind != 0
        and not entry.revoked
        and now >= entry.effective_at
        and now >= entry.not_before
        and now <= entry.not_after
    )

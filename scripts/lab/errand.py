"""The rig's one task: small enough that preparing it costs a slow Machine next to nothing."""

from __future__ import annotations

import secrets
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.formats import hpke
from agent.formats.cid import cid_of
from agent.formats.messages import BEFORE, Context, Prepare
from agent.formats.taskspec import FunctionRef, Limits, Receiver, TaskSpec, commitment_of
from nodeclient.core.evidence_policy import Expected, Nonce
from nodeclient.core.types import Address, NodeRecord, NodeStatus, Phase, RootClass
from nodeclient.images.pack import ImageConfig, write_image, write_layer

EPOCH: Final = 1_735_689_600  # as the boot image's
LIMITS: Final = Limits(
    seconds=60, memory_bytes=64 << 20, scratch_bytes=8 << 20, pids=16, cpu_milli=1000
)
NODE: Final = Address(b"\x22" * 20)
TASK: Final = 7


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """A runtime image (ID, 32 bytes) and its tar."""

    image_id: bytes
    path: Path


def empty_runtime(folder: Path) -> RuntimeImage:
    """A runtime image with no program in it: enough to lie ready."""
    root, layer, target = folder / "root.tar", folder / "layer.tar", folder / "image.tar"
    with tarfile.open(root, "w"):
        pass
    digest = write_layer(root, layer, EPOCH)
    config = ImageConfig("amd64", EPOCH, ())
    return RuntimeImage(write_image(layer, digest, target, config), target)


@dataclass(frozen=True, slots=True)
class Errand:
    """A task on one Node."""

    spec: TaskSpec
    chain_id: int
    market: Address
    number: int

    @classmethod
    def of(cls, image: bytes, chain_id: int, market: Address, number: int = TASK) -> Errand:
        """A task in the runtime image `image`, posted on this market."""
        function = FunctionRef(cid_of(secrets.token_bytes(64)), b"\x33" * 20, bytes(32))
        spec = TaskSpec(
            salt=secrets.token_bytes(32),
            requester=b"\x44" * 20,
            number=0,
            function=function,
            command=("/nothing",),
            runtime_image=image,
            inputs=(),
            receivers=(Receiver("owner", b"\x44" * 20, hpke.generate()[1]),),
            connections=(),
            devices=(),
            limits=LIMITS,
        )
        return cls(spec, chain_id, market, number)

    @property
    def commitment(self) -> bytes:
        """Under which it stands on chain."""
        return commitment_of(self.spec.encode())

    @property
    def context(self) -> Context:
        """BEFORE the run, first attempt."""
        return Context(self.chain_id, self.market, self.number, self.commitment, NODE, BEFORE, 0)

    def order(self) -> object:
        """Body of the Agent's call `prepare`."""
        return Prepare(self.spec.encode(), self.context, 3).to_body()

    def expected(self, nonce: bytes) -> Expected:
        """What a verifier of it knows, who asked this nonce."""
        return Expected(
            chain_id=self.chain_id,
            market=self.market,
            task=self.number,
            commitment=self.commitment,
            node=NODE,
            phase=Phase.BEFORE,
            attempt=0,
            nonce=Nonce(nonce),
            spec=self.spec,
        )


def record_of(attestation_key: bytes, root_public: bytes) -> NodeRecord:
    """What the registry would hold of the Node after its enrolment."""
    return NodeRecord(
        id=1,
        address=NODE,
        status=NodeStatus.ACTIVE,
        root_class=RootClass.SOFTWARE,
        root_public=root_public,
        vrf_public=b"",
        hardware_id=bytes(32),
        attestation_key=attestation_key,
        contact_digest=bytes(32),
        deposit=0,
        tier=1,
        engaged=True,
        fixed_at=0,
    )

"""A verifier of the rig: the product's own parts, in a namespace of its own.

Reference values are computed from its own copy of the boot image, approvals read from the chain,
and the TPM is made to prove its key through credential activation, as a Committee member does it.
"""

from __future__ import annotations

from pathlib import Path

from agent.formats.cbor import FormatError
from agent.formats.evidence import TPM_QUOTED, Evidence
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.core.appraisal import AttestationResult, appraise
from nodeclient.core.evidence_policy import AppraisalPolicy, Expected
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import NodeRecord, Verdict
from nodeclient.duties.endorsing import Ask, Endorser
from nodeclient.images.boot.reference import open_boot_files, open_eraser
from nodeclient.machine.lab.qemu import SIMULATED
from nodeclient.store.database import Store
from nodeclient.upkeep.bootimages import BootImages
from nodeclient.upkeep.reference import Reference

POLICY = AppraisalPolicy(vouch=frozenset({TPM_QUOTED}), simulated=frozenset({"root", *SIMULATED}))
PATIENCE = 30.0  # seconds until a silent Machine counts as one that proves nothing


class Verifier:
    """Lives in one event loop. ``makers``: folder of the TPM makers that it believes."""

    def __init__(
        self, folder: Path, url: str, deployment: Deployment, boot_images: Path, ask: Ask
    ) -> None:
        folder.mkdir(parents=True)
        self.makers = folder / "ek-roots"
        self._boot_images = BootImages(boot_images, open_boot_files, open_eraser)
        self._rpc = Rpc(url)
        chain = Reader(self._rpc, deployment)
        self._reference = Reference(chain, folder, self._boot_images)
        self._folder, self._ask = folder, ask
        self._remember()

    async def forget(self) -> None:
        """From now on ask everybody for a new proof of their TPM."""
        self._store.close()
        self._remember()

    def _remember(self) -> None:
        self._store = Store(Path(":memory:"), bytes(32))
        self._endorser = Endorser(self._ask, self._store, self.makers)

    async def warm(self) -> None:
        """Check the boot images ahead, as a daemon does when it starts."""
        await self._reference.warm()

    async def judge(self, data: bytes, expected: Expected, record: NodeRecord) -> AttestationResult:
        """Appraise Evidence as it came over the wire."""
        try:
            evidence = Evidence.decode(data)
            evidence.session()
        except FormatError as error:
            refused = (reason(Code.CLAIM_MALFORMED, str(error)),)
            return AttestationResult(Verdict.CONTRAINDICATED, refused, ())
        reference = await self._reference.values(expected.spec.runtime_image, evidence)
        endorsements = await self._endorser.endorse(expected.commitment, record, evidence, PATIENCE)
        return appraise(evidence, expected, reference, endorsements, POLICY)

    async def close(self) -> None:
        """Let go of the chain."""
        self._store.close()
        await self._rpc.close()


def said(result: AttestationResult) -> tuple[str, ...]:
    """The reasons of a result, sorted, each as "code: text"."""
    return tuple(sorted(map(str, result.reasons)))

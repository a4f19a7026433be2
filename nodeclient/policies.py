"""The owner's policies on disk and their answers: one JSON file per Capsule, named by its CID.

A Capsule without a file has no policy, and no policy permits nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.formats.taskspec import TaskSpec
from nodeclient.core.policy import ExecutorFacts, OwnerPolicy, PolicyContext, Stage, permits
from nodeclient.core.policy_file import PolicyError, policy_from_dict, policy_to_dict
from nodeclient.core.reasons import Code, Reason, reason
from nodeclient.core.types import Address, Commitment
from nodeclient.files import replace_file

MAX_FILE = 256 << 10  # bytes


class Policies:
    """Reads policies afresh for every question, so that an owner's edit counts at once."""

    def __init__(
        self,
        folder: Path,
        owner: Address,
        uses: Callable[[str, bytes], int],
        contact_keys: Callable[[], dict[bytes, bytes]],
        head: Callable[[], int],
    ) -> None:
        """``uses``: (cid, commitment) -> consents for other commitments; ``head``: block number."""
        self._folder = folder
        self._owner = owner
        self._uses = uses
        self._contact_keys = contact_keys
        self._head = head

    def consent_reasons(
        self, spec: TaskSpec, cids: Sequence[str], committed: Commitment, committee_size: int
    ) -> tuple[str, ...]:
        """Why this owner does not agree to a TaskSpec; empty: it does."""
        if not cids:
            return (str(reason(Code.CAPSULE_NOT_NAMED, "no capsule of this owner is named").text),)
        found = [
            each
            for cid in cids
            for each in self._judge(spec, cid, committed, committee_size, Stage.CONSENT, None)
        ]
        return tuple(f"{each.code}: {each.text}" for each in found)

    def release_reasons(
        self,
        spec: TaskSpec,
        cids: Sequence[str],
        committed: Commitment,
        committee_size: int,
        executor: ExecutorFacts,
    ) -> tuple[str, ...]:
        """Why a key does not leave, with the Executor known; empty: it may."""
        found = [
            each
            for cid in cids
            for each in self._judge(spec, cid, committed, committee_size, Stage.RELEASE, executor)
        ]
        return tuple(f"{each.code}: {each.text}" for each in found)

    def load(self, cid: str) -> OwnerPolicy | None:
        """A Capsule's policy; None where there is none or the file is unusable."""
        path = self._path(cid)
        try:
            with path.open("rb") as file:
                return policy_from_dict(json.loads(file.read(MAX_FILE)))
        except (OSError, ValueError, PolicyError):
            return None

    def save(self, cid: str, policy: OwnerPolicy) -> None:
        """Set a Capsule's policy."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._path(cid), json.dumps(policy_to_dict(policy), indent=1).encode())

    def _judge(
        self,
        spec: TaskSpec,
        cid: str,
        committed: Commitment,
        committee_size: int,
        stage: Stage,
        executor: ExecutorFacts | None,
    ) -> tuple[Reason, ...]:
        context = PolicyContext(
            stage=stage,
            owner=self._owner,
            cid=cid,
            now=int(time.time()),
            block=self._head(),
            uses=self._uses(cid, committed),
            committee_size=committee_size,
            contact_keys=self._contact_keys(),
            executor=executor,
        )
        return permits(self.load(cid), spec, context)

    def _path(self, cid: str) -> Path:
        return self._folder / f"{cid}.json"

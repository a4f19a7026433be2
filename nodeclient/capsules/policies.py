"""The owner's policies on disk and their answers: one JSON file per Capsule, named by its CID.

A Capsule without a file has no policy, and no policy permits nothing.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.formats.taskspec import TaskSpec
from nodeclient.core.policy import ExecutorFacts, OwnerPolicy, PolicyContext, Stage, permits
from nodeclient.core.policy_file import policy_from_dict, policy_to_dict
from nodeclient.core.reasons import Code, Reason
from nodeclient.core.types import Address, Commitment
from nodeclient.errors import BadInput
from nodeclient.files import read_given, replace_file

MAX_FILE = 256 << 10  # bytes
NEXT = "correct it; docs/policy.md explains every key"


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
            return (f"{Code.CAPSULE_NOT_NAMED}: no capsule of this owner is named",)
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
        try:
            return load_policy(policy_path(self._folder, cid))
        except BadInput:
            return None

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


def policy_path(folder: Path, cid: str) -> Path:
    """Where the policy of a Capsule lies in a Node's folder."""
    return folder / "policies" / f"{cid}.json"


def load_policy(path: Path) -> OwnerPolicy:
    """Read a policy file, JSON or TOML by its ending. Raises BadInput."""
    raw = read_given(path, MAX_FILE, BadInput, "shorten it")
    try:
        parsed = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
        if not isinstance(parsed, dict):
            raise BadInput(f"{path} is no JSON object", NEXT)
        return policy_from_dict(parsed)
    except ValueError as error:
        raise BadInput(f"{path}: {error}", NEXT) from error


def save_policy(folder: Path, cid: str, policy: OwnerPolicy) -> None:
    """Set a Capsule's policy; a daemon that runs takes it at the next question."""
    path = policy_path(folder, cid)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, json.dumps(policy_to_dict(policy), indent=1).encode())

"""What three people agree on: a function, two sealed files, and who may read the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess, Sealed

PYTHON = "/usr/bin/python3"
DAY = 86_400
PATIENT = 3
"""The class with the longest deadlines: nothing here is about missing one by chance."""


@dataclass(frozen=True)
class Job:
    """A function's folder, one input per owner, and the function's arguments."""

    function: Path
    inputs: tuple[Path, ...]
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """How the function is started in the container."""
        return [PYTHON, "/capsule/function/main.py", *self.arguments]


def ask_for_common(
    network: Network,
    requester: NodeProcess,
    owners: Sequence[NodeProcess],
    job: Job,
    **changes: object,
) -> dict[str, object]:
    """Seal everything, set the policies, and return the order's body.

    ``changes`` replace fields of the order after the policies are set for the honest one.
    """
    function = requester.seal(job.function, "function")
    sealed = [owner.seal(path, "data") for owner, path in zip(owners, job.inputs, strict=True)]
    for owner, capsule in zip(owners, sealed, strict=True):
        owner.permit(capsule.cid, policy(network, function, owners, job))
    request: dict[str, object] = {
        "function": {
            "cid": function.cid,
            "owner": requester.account,
            "digest": f"0x{function.digest.hex()}",
        },
        "command": job.command,
        "runtime_image": f"0x{network.image.image_id.hex()}",
        "inputs": [
            {"name": f"list-{letter}", "cid": capsule.cid, "owner": owner.account}
            for letter, owner, capsule in zip("bcdefghij", owners, sealed, strict=False)
        ],
        "receivers": [
            {"name": f"owner-{letter}", "node": owner.account}
            for letter, owner in zip("bcdefghij", owners, strict=False)
        ],
        "connections": [],
        "devices": [],
        "limits": {
            "seconds": 300,
            "memory_bytes": 256 << 20,
            "scratch_bytes": 64 << 20,
            "pids": 32,
            "cpu_milli": 1000,
        },
        "fees": {"executor_wei": str(10**16), "member_wei": str(10**15)},
        "committee_size": 3,
        "class_id": PATIENT,
    }
    return {**request, **changes}


def policy(
    network: Network, function: Sealed, receivers: Sequence[NodeProcess], job: Job
) -> Mapping[str, object]:
    """Once, this function, this image, these receivers, and Machines as this network has them."""
    return {
        "functions": [{"digest": f"0x{function.digest.hex()}", "command": job.command}],
        "runtime_images": [f"0x{network.image.image_id.hex()}"],
        "receivers": [{"node": node.account} for node in receivers],
        "uses": 1,
        "expires_at": int(time.time()) + DAY,
        "smallest_committee": 3,
        "least_reputation": 0,
        "least_deposit": "0",
        "root_classes": [network.root_class.name],
        "vouch": [network.vouch],
        "simulated": [*network.simulated],
    }


def order(requester: NodeProcess, request: Mapping[str, object]) -> int:
    """Post; returns the task's number."""
    answer: dict[str, Any] = requester.submit(request)
    return int(answer["task"])

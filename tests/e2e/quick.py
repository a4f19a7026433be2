"""Orders without the command line's start-up: the same sealing and policies, inside this process.

`test_main_job` and `test_capsules` go through the command line; tests that need a dozen tasks at
once go this way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.formats.capsule import Kind
from nodeclient.capsules.policies import save_policy
from nodeclient.capsules.seal import seal_path
from nodeclient.core.policy_file import policy_from_dict
from nodeclient.identity.folder import open_folder
from scripts.embedded.job import PATIENT, Job, policy
from scripts.embedded.node import NodeProcess, Sealed
from tests.e2e.conftest import OVER, WORKERS, Driver

AT_ONCE = len(WORKERS) - 2


def seal(node: NodeProcess, path: Path, kind: Kind) -> Sealed:
    """As `sealrun capsule seal`."""
    opened = open_folder(node.folder)
    sealed = seal_path(path, kind, root=opened.root, store=opened.store, vault=opened.vault)
    return Sealed(sealed.cid, sealed.digest)


def permit(node: NodeProcess, cid: str, rules: Mapping[str, Any]) -> None:
    """As `sealrun capsule permit`."""
    save_policy(node.folder, cid, policy_from_dict(dict(rules)))


def request(
    driver: Driver,
    function: Path,
    inputs: Sequence[Path],
    *,
    poster: NodeProcess | None = None,
    arguments: Sequence[str] = (),
    names: Sequence[str] = ("list-b", "list-c"),
    receivers: Sequence[str] = ("owner-b", "owner-c"),
    permitted: Mapping[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Seal and permit; the body of an order. ``permitted`` changes the owners' policies,
    ``changes`` the order."""
    who, owners = poster or driver.requester, (driver.b, driver.c)
    job = Job(function, tuple(inputs), tuple(arguments))
    code = seal(who, function, Kind.FUNCTION)
    sealed = [seal(owner, path, Kind.DATA) for owner, path in zip(owners, inputs, strict=True)]
    for owner, capsule in zip(owners, sealed, strict=True):
        rules = {**policy(driver.network, code, owners, job), **(permitted or {})}
        permit(owner, capsule.cid, rules)
    return {
        "function": {"cid": code.cid, "owner": who.account, "digest": f"0x{code.digest.hex()}"},
        "command": job.command,
        "runtime_image": f"0x{driver.network.image.image_id.hex()}",
        "inputs": [
            {"name": name, "cid": capsule.cid, "owner": owner.account}
            for name, owner, capsule in zip(names, owners, sealed, strict=True)
        ],
        "receivers": [
            {"name": name, "node": owner.account}
            for name, owner in zip(receivers, owners, strict=True)
        ],
        "connections": [],
        "devices": [],
        "limits": {
            "seconds": 300,
            "memory_bytes": 64 << 20,
            "scratch_bytes": 4 << 20,
            "pids": 16,
            "cpu_milli": 500,
        },
        "fees": {"executor_wei": str(10**16), "member_wei": str(10**15)},
        "committee_size": 3,
        "class_id": PATIENT,
        **changes,
    }


def wait_for_room(driver: Driver, tasks: Iterable[int], seconds: float = 400) -> None:
    """Until so few tasks run that a worker without one is left to claim the next."""
    end = time.monotonic() + seconds
    while sum(driver.view(task)["state"] not in OVER for task in tasks) >= AT_ONCE:
        if time.monotonic() > end:
            raise AssertionError("the tasks before this one do not end")
        time.sleep(0.15)


def outcome(
    driver: Driver, task: int, node: NodeProcess | None = None, seconds: float = 180
) -> dict[str, Any]:
    """How the run ended, as soon as a node knows."""
    end = time.monotonic() + seconds
    while True:
        told: dict[str, Any] | None = driver.view(task, node)["outcome"]
        if told is not None:
            return told
        if time.monotonic() > end:
            raise AssertionError(f"task {task}: the outcome is not known")
        time.sleep(0.15)

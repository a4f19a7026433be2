"""What runs on the Machine: exactly the TaskSpec's function in exactly its environment."""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.messages import Outcome
from nodeclient.core import claims
from nodeclient.core.checks.case import Case, Finding, not_checked, note
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import Phase

_USER = "65534:65534"
_MOUNTS = [["/capsule/function", True], ["/capsule/in", True], ["/capsule/out", False]]
_PROXY_MOUNT = ["/capsule/proxy.sock", True]
_SEALED = ("dm-crypt", "aes-xts-plain64", 512)  # kind, cipher, bits of the key: agent.disks
_DISKS = ("dm-0", "dm-1")
SHARED_ENGINE = "engine shared with the host"  # as such a Machine states it: simulated


def containers(case: Case) -> Iterator[Finding]:
    """None before and after; during the run at most one, of the right image, fully hardened."""
    own, foreign = claims.containers(case.evidence)
    early = claims.confined(case.evidence) and case.expected.phase is not Phase.DURING
    if SHARED_ENGINE in claims.simulated(case.evidence):  # whether it may be is policy
        if foreign or early:
            yield not_checked("containers of others on the same engine (it is shared)")
    else:
        if foreign:
            yield reason(Code.CONTAINERS, f"{foreign} containers run that are not the task's")
        if early:
            yield reason(Code.CONTAINERS, "a process is confined as a function while none may run")
    allowed = 1 if case.expected.phase is Phase.DURING else 0
    if len(own) > allowed:
        yield reason(Code.CONTAINERS, f"{len(own)} containers, at most {allowed} permitted")
    if case.expected.phase is Phase.DURING:
        for container in own:
            yield from _container(case, container)


def _container(case: Case, container: claims.Container) -> Iterator[Finding]:
    spec = case.expected.spec
    if container.image != spec.runtime_image:
        yield reason(Code.CONTAINERS, "a container of another image than the task's")
    if container.user != _USER:
        yield reason(Code.HARDENING, "user is not the one without rights")
    wanted = _flags(case)
    for name, value in wanted.items():
        if name not in container.flags or container.flags[name] != value:
            yield reason(Code.HARDENING, f"{name} is not set as it must be")
    for name in sorted(map(str, set(container.flags) - set(wanted))):
        yield not_checked(f"container flag {name}")


def _flags(case: Case) -> dict[str, object]:
    """The flags of ``agent.hardening`` for this TaskSpec, as the engine must report them."""
    spec = case.expected.spec
    proxy = [_PROXY_MOUNT] if spec.connections else []
    return {
        "network": "none",
        "read_only": True,
        "cap_add": [],
        "cap_drop": ["ALL"],
        "privileged": False,
        "no_new_privileges": True,
        "seccomp": True,
        "memory_bytes": spec.limits.memory_bytes,
        "memory_swap_bytes": spec.limits.memory_bytes,
        "pids": spec.limits.pids,
        "cpu_milli": spec.limits.cpu_milli,
        "mounts": _MOUNTS + proxy,
        "devices": sorted({node for _, node in claims.devices(case.evidence)}),
        "ipc": "private",
        "pid": "",
        "log": "none",
    }


def runtime_image(case: Case) -> Iterator[Finding]:
    """The TaskSpec's runtime image, approved, lies ready."""
    image, present = claims.runtime(case.evidence)
    wanted = case.expected.spec.runtime_image
    if image != wanted or not present:
        yield reason(Code.RUNTIME_IMAGE, "the task's runtime image is not the one that lies ready")
    if wanted not in case.reference.runtime_images:
        yield reason(Code.RUNTIME_IMAGE, f"{wanted.hex()} is not approved")


def function(case: Case) -> Iterator[Finding]:
    """The TaskSpec's function; its digest is known once the owner's key opened it."""
    cid, digest = claims.function(case.evidence)
    wanted = case.expected.spec.function
    if cid != wanted.cid:
        yield reason(Code.FUNCTION, "another function capsule than the task's")
    own, _ = claims.containers(case.evidence)
    if digest is None and own and case.expected.phase is Phase.DURING:
        yield reason(Code.FUNCTION, "a container runs and the function's digest is not stated")
    elif digest is None:
        yield not_checked("function digest (not unpacked yet)")
    elif digest != wanted.digest:
        yield reason(Code.FUNCTION, "another function than the task's")


def network(case: Case) -> Iterator[Finding]:
    """The allow-list is the TaskSpec's; what was refused is told."""
    policy, counts = claims.network(case.evidence)
    if sorted(policy) != sorted(case.expected.spec.connections):
        yield reason(Code.NETWORK, "the list of permitted connections is not the task's")
    for name, count in sorted(counts.items()):
        if count and not name.endswith("_bytes"):  # those change with every answer
            yield note(f"connections {name}: {count}")


def devices(case: Case) -> Iterator[Finding]:
    """Only devices that the TaskSpec names were passed in, each node for its own name."""
    permitted = case.expected.spec.devices
    for asked, node in claims.devices(case.evidence):
        if asked not in permitted or (asked.startswith("/dev/") and node != asked):
            yield reason(Code.DEVICES, f"{node} was passed in for {asked}, which is not the task's")


def scratch(case: Case) -> Iterator[Finding]:
    """Where a TPM vouches for the kernel, a task's files lie on disks whose key it alone has.

    Both from BEFORE until the end of the run, and none in the fresh boot.
    """
    stated = claims.scratch(case.evidence)
    if case.material is None:
        yield not_checked(f"where the task's files lie ({stated.kind}; no TPM quote)")
        return
    if (stated.kind, stated.cipher, stated.key_bits) != _SEALED:
        yield reason(Code.SCRATCH, "the task's files do not lie on disks encrypted as they must be")
    wanted = () if case.expected.phase is Phase.AFTER else _DISKS
    if stated.devices != wanted:
        there = " and ".join(stated.devices) or "none"
        yield reason(Code.SCRATCH, f"encrypted disks: {there}, not those of this step")


def early_outcome(case: Case) -> Iterator[Finding]:
    """Nothing can have run before the run; while it runs, an outcome may be there already."""
    stated = case.evidence.claim("outcome")
    if stated is None:
        return
    if case.expected.phase is Phase.BEFORE:
        yield reason(Code.OUTCOME, "states an outcome before the run")
    yield note(f"outcome {Outcome.from_body(stated).status.value}")

"""The settings under which a function runs: everything is off that a pure function does not need.

No network, a read-only root, no capability, no new privileges, an allow-list of system calls,
bounds on memory, processes, CPU, open files and file size, a small RAM disk without execution as
/tmp, and an account that owns nothing. The engine's log is off, because it is a disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docker.types import LogConfig, Mount, Ulimit

from agent.devices import PassedDevice
from agent.disks import CONTAINER_UID
from agent.formats.taskspec import Limits
from agent.scratch import Scratch

PROXY_PATH = "/capsule/proxy.sock"
PROXY_VARIABLE = "SEALRUN_PROXY"
_OPEN_FILES = 1024
_TMP = "size=16m,mode=1777,noexec,nosuid,nodev"
_SHARED_MEMORY = 16 << 20
_SECCOMP = Path(__file__).with_name("seccomp.json")


def container_settings(
    limits: Limits, scratch: Scratch, devices: Sequence[PassedDevice], *, proxy: bool
) -> dict[str, Any]:
    """Keyword arguments for docker's `containers.create`.

    What the function writes under /capsule/out lies in RAM. On a RAM disk it counts as its memory;
    of an encrypted one the pages behind it do not: its size alone bounds them.
    """
    mounts = [
        _bind("/capsule/function", scratch.function, read_only=True),
        _bind("/capsule/in", scratch.inputs, read_only=True),
        _bind("/capsule/out", scratch.out, read_only=False),
    ]
    environment = {}
    if proxy:
        mounts.append(_bind(PROXY_PATH, scratch.proxy, read_only=True))
        environment[PROXY_VARIABLE] = PROXY_PATH
    return {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", f"seccomp={_seccomp()}"],
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,  # equal: no swap, clear text never leaves RAM
        "pids_limit": limits.pids,
        "nano_cpus": limits.cpu_milli * 1_000_000,
        "ulimits": [
            Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="fsize", soft=limits.scratch_bytes, hard=limits.scratch_bytes),
        ],
        "tmpfs": {"/tmp": _TMP},  # noqa: S108 - inside the container
        "shm_size": _SHARED_MEMORY,
        "user": f"{CONTAINER_UID}:{CONTAINER_UID}",
        "group_add": sorted({str(device.group) for device in devices if device.group}),
        "devices": [f"{device.node}:{device.node}:rw" for device in devices],
        "mounts": mounts,
        "environment": environment,
        "working_dir": "/tmp",  # noqa: S108 - inside the container
        "hostname": "machine",
        "ipc_mode": "private",
        "log_config": LogConfig(type="none"),
        "restart_policy": {"Name": "no"},
        "detach": True,
    }


def _bind(target: str, source: Path, *, read_only: bool) -> Mount:
    return Mount(
        target, str(source.absolute()), type="bind", read_only=read_only, propagation="private"
    )


def _seccomp() -> str:
    """The profile on one line: the engine takes JSON, not a path of the Agent's."""
    return json.dumps(json.loads(_SECCOMP.read_text()), separators=(",", ":"))

"""A Node's configuration: ``<node>/config.toml``, read once, frozen ever after.

Unknown keys are refused: a misspelt limit must not silently be no limit. Paths are relative to the
node's folder unless absolute. Secrets never stand here, only the paths of their files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Discriminator, Field, IPvAnyNetwork, Tag, ValidationError

from nodeclient.config.health import HealthConfig
from nodeclient.config.part import Part, kind_or
from nodeclient.config.root import AnyRootConfig, SoftwareRootConfig
from nodeclient.core.case import Role
from nodeclient.core.evidence_policy import MOST_UNCOVERED
from nodeclient.core.incidents import Kind
from nodeclient.core.responses import DEFAULTS, Response, Table, override
from nodeclient.errors import ConfigError
from nodeclient.names import DIGEST, INTERFACE, MAC, OPTIONAL_DIGEST

CONFIG = "config.toml"
_MAX_FILE = 64 << 10  # bytes
Command = Annotated[tuple[str, ...], Field(min_length=1)]
Occurrence = Annotated[int, Field(ge=1, le=64)]
Digest = Annotated[str, Field(pattern=DIGEST)]


class ChainConfig(Part):
    """Which chain: its RPC endpoint, and the file that says where the contracts stand.

    ``confirmations``: blocks over a BEFORE record until a content key may leave.
    ``poll_seconds``: between two looks for a new block; well below the time between two blocks.
    """

    rpc: Annotated[str, Field(pattern=r"^https?://")]
    deployment: Path
    confirmations: Annotated[int, Field(ge=1)] = 2
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5


class NodeConfig(Part):
    """How peers reach this Node (host:port), where it listens if not there, and what it does.

    ``seek_admission``: a PENDING Node asks for its admission by itself; each request burns a fee.
    ``ask_running_seconds``: between two peers that are asked what they run.
    """

    endpoint: Annotated[str, Field(pattern=r"^[^/\s]+:[0-9]{1,5}$")]
    listen: str | None = None
    roles: frozenset[Role] = frozenset(Role)
    seek_admission: bool = False
    ask_running_seconds: Annotated[float, Field(ge=1, le=86400)] = 300.0


class StoreConfig(Part):
    """Where Capsules' blocks, their sealed content keys and opened results lie."""

    blocks: Path = Path("blocks")
    keys: Path = Path("capsules")
    results: Path = Path("results")


class ServicesConfig(Part):
    """Containers of this Pi. ``guard``: who stops those whose image is not approved: this
    ``daemon``, a process ``apart`` (``sealrun node guard``, where the daemon is in a container
    itself), or ``none`` where there are no containers. ``project``: the value of their label
    ``sealrun.project``; ``engine``: the socket of their Docker engine.
    """

    guard: Literal["none", "daemon", "apart"] = "none"
    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")] = "sealrun"
    engine: Path = Path("/var/run/docker.sock")


class MachineConfig(Part):
    """What every Machine has. ``images``, ``boot_images``: folders of runtime and boot images.

    ``accept_vouch``: who may stand for *others'* Machines; a Pi that vouches for its own could make
    all of it up, so that is not the default.
    ``accept_simulated``: parts of *others'* Machines that may be simulated, as their Evidence names
    them; none by default. ``accept_drivers``: SHA-256 of what cards of others' Machines may run
    before the boot image; ``accept_firmware`` and ``accept_files``: digests of the only firmware
    and the only files (IMA) that may have run there; empty: named as not checked.
    ``accept_uncovered_mib``: how much RAM a proof of erasure of theirs may leave out.
    ``question_rate``: questions per second to a Machine that it watches.
    ``silence_seconds`` without an answer are a finding: longer than an honest Pi takes to restart.
    ``rotate_seconds``: how long keys of the channel to the Machine are used.
    ``proxy_networks``: where connections of tasks that run here may lead besides the public
    internet; ``proxy_mib``: of one task's connections, both ways together.
    ``monitor_rate``: questions per second of its own to the own Machine while a Task is on it.
    ``actions``: for a kind of incident, from which occurrence on what is done; a kind that is named
    replaces the whole default of that kind.
    ``ek_roots``: folder of the root certificates of TPM makers that are believed; empty: none.
    """

    images: Path = Path("images")
    boot_images: Path = Path("images/boot")
    accept_vouch: frozenset[Literal["PI-ONLY", "TPM-QUOTED"]] = frozenset({"TPM-QUOTED"})
    accept_simulated: frozenset[str] = frozenset()
    accept_drivers: frozenset[Digest] = frozenset()
    accept_firmware: frozenset[Digest] = frozenset()
    accept_files: frozenset[Digest] = frozenset()
    accept_uncovered_mib: Annotated[int, Field(ge=0, le=1 << 20)] = MOST_UNCOVERED >> 20
    question_rate: Annotated[float, Field(gt=0, le=100)] = 0.5
    silence_seconds: Annotated[float, Field(gt=0, le=3600)] = 20.0
    monitor_rate: Annotated[float, Field(gt=0, le=100)] = 0.2
    rotate_seconds: Annotated[float, Field(ge=1, le=86400)] = 600.0
    proxy_networks: tuple[IPvAnyNetwork, ...] = ()
    proxy_mib: Annotated[int, Field(ge=0, le=1 << 20)] = 256
    actions: dict[Kind, dict[Occurrence, tuple[Response, ...]]] = Field(default_factory=dict)
    ek_roots: Path = Path("ek-roots")


def responses(machine: MachineConfig) -> Table:
    """What is done about incidents: the defaults, with the operator's rows in their place."""
    changes = {kind: tuple(sorted(rows.items())) for kind, rows in machine.actions.items()}
    return override(DEFAULTS, changes)


class LocalMachineConfig(MachineConfig):
    """The embedded profile: a process with Docker on this host."""

    kind: Literal["local"] = "local"


class HookPowerConfig(Part):
    """A PC's power switch: commands (argument lists, no shell). Without ``on``: wake-on-LAN;
    without ``reset``: off and on. ``settle_seconds`` without power until its RAM has forgotten;
    ``hook_seconds``: how long a command may take.
    """

    kind: Literal["hooks"] = "hooks"
    off: Command
    on: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    settle_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    hook_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0


class QemuPowerConfig(Part):
    """The lab's PC: a virtual one on ``tap``, its TPM, disk and console in ``folder``."""

    kind: Literal["qemu"]
    tap: Annotated[str, Field(pattern=INTERFACE)]
    folder: Path = Path("machine/pc")
    memory_mib: Annotated[int, Field(ge=512, le=65536)] = 1536
    cpus: Annotated[int, Field(ge=1, le=64)] = 2


class NetbootMachineConfig(MachineConfig):
    """A PC on this Pi's cable: ``interface`` is the Pi's end, ``mac`` the PC's.

    ``boot_image``: ID of the image that it boots, hexadecimal. ``eraser``: of the one that erases
    its RAM after a task; without it no proof of that is made. ``boot_server``: the command that
    serves a boot, where that runs in a container. ``work_mib`` of the PC's RAM for a Task's files.
    """

    kind: Literal["netboot"]
    interface: Annotated[str, Field(pattern=INTERFACE)]
    mac: Annotated[str, Field(pattern=MAC)]
    boot_image: Digest
    power: Annotated[
        Annotated[HookPowerConfig, Tag("hooks")] | Annotated[QemuPowerConfig, Tag("qemu")],
        Discriminator(kind_or("hooks")),
    ]
    eraser: Annotated[str, Field(pattern=OPTIONAL_DIGEST)] = ""
    boot_server: Command | None = None
    boot_seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    work_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 512


def erases(machine: MachineConfig) -> bool:
    """False for a PC without an eraser. A process of this host has no RAM of its own to erase."""
    return not isinstance(machine, NetbootMachineConfig) or bool(machine.eraser)


AnyMachineConfig = Annotated[
    Annotated[LocalMachineConfig, Tag("local")] | Annotated[NetbootMachineConfig, Tag("netboot")],
    Discriminator(kind_or("local")),
]


class Config(Part):
    """All of ``config.toml``, its paths absolute."""

    folder: Path
    chain: ChainConfig
    node: NodeConfig
    root: AnyRootConfig = SoftwareRootConfig()
    store: StoreConfig = StoreConfig()
    machine: AnyMachineConfig = LocalMachineConfig()
    health: HealthConfig = HealthConfig()
    services: ServicesConfig = ServicesConfig()

    def path(self, path: Path) -> Path:
        """A path of this configuration, absolute."""
        return self.folder / path


def load_config(folder: Path) -> Config:
    """Read and validate ``folder/config.toml``. Raises `ConfigError`."""
    path = folder / CONFIG
    create = f"make a node: sealrun node init {folder}"
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no {CONFIG}", create) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "check the path") from error
    if len(raw) > _MAX_FILE:
        raise ConfigError(f"{path} exceeds {_MAX_FILE >> 10} KiB", create)
    try:
        values = tomllib.loads(raw.decode())
        if "folder" in values:
            raise ConfigError(f"{path}: unknown key 'folder'", "remove it")
        return Config.model_validate({**values, "folder": folder.resolve()})
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}", "correct that key") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", "correct that line") from error


def write_config(
    folder: Path,
    *,
    rpc: str,
    deployment: Path,
    endpoint: str,
    roles: frozenset[Role],
    root: Mapping[str, str | list[int]] = MappingProxyType({}),
) -> Config:
    """Write a new ``config.toml`` with what a Node cannot know by itself; the rest has defaults.

    Raises `ConfigError` if a value is malformed, and OSError.
    """
    rows = "".join(f"{key} = {_value(value)}\n" for key, value in root.items())
    text = (
        "# A sealrun node. Every key: docs/architecture.md, 'Configuration'.\n\n"
        f"[chain]\nrpc = {_quoted(rpc)}\ndeployment = {_quoted(str(deployment.resolve()))}\n\n"
        f"[root]\n{rows}\n[node]\nendpoint = {_quoted(endpoint)}\n"
        f"roles = [{', '.join(_quoted(role.value) for role in sorted(roles))}]\n"
    )
    path = folder / CONFIG
    path.write_text(text)
    try:
        return load_config(folder)
    except ConfigError:
        path.unlink()
        raise


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: where and what."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _value(value: str | list[int]) -> str:
    return _quoted(value) if isinstance(value, str) else str([int(each) for each in value])


def _quoted(text: str) -> str:
    """A TOML basic string."""
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ConfigError("a value holds control characters", "leave them out")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

"""The task file: what a person writes to have something run (TOML), and what the daemon is sent.

Format and an example: ``docs/task-file.md``. Sizes and fees are written with their unit; unknown
keys are refused. The bounds on values are `TaskSpec`'s own and are checked by the daemon too; here
the person is told early, by the name of the key.
"""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nodeclient.config.node import first_fault
from nodeclient.errors import TaskFileInvalid
from nodeclient.files import read_given

_MAX_FILE = 256 << 10  # bytes
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_FEES = {"wei": 1, "gwei": 10**9, "ether": 10**18}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")


def _quantity(units: dict[str, int]) -> BeforeValidator:
    """Turn "1.5 GiB" into an integer of the smallest unit; it must come out whole."""

    def convert(text: Any) -> int:
        match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[2] not in units:
            raise ValueError(f"write a number and one of {', '.join(units)}, in quotes")
        try:
            exact = Decimal(match[1]) * units[match[2]]
        except InvalidOperation as error:
            raise ValueError("the number is too long") from error
        if exact != exact.to_integral_value():
            raise ValueError(f"is no whole number of {next(iter(units))}")
        return int(exact)

    return BeforeValidator(convert)


Size = Annotated[int, _quantity(_SIZES)]
Fee = Annotated[int, _quantity(_FEES)]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Hash = Annotated[str, Field(pattern=r"^(0x|sha256:)[0-9a-f]{64}$")]
Cid = Annotated[str, Field(pattern=r"^bafkrei[a-z2-7]{52}$")]
# Not dots alone: "." and ".." would leave the folder they name.
Name = Annotated[str, Field(pattern=r"^\.*[a-z0-9_-][a-z0-9._-]*$", max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Function(_Part):
    """A function: a path to seal now, or a sealed one by CID, owner and digest."""

    path: Path | None = None
    cid: Cid | None = None
    owner: Address | None = None
    digest: Hash | None = None
    command: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _one_way(self) -> Function:
        given = [value is not None for value in (self.cid, self.owner, self.digest)]
        if any(given) if self.path is not None else not all(given):
            raise ValueError("give either path, or all of cid, owner and digest")
        return self


class Input(_Part):
    """A DATA Capsule that the function finds as /capsule/in/<name>."""

    name: Name
    cid: Cid
    owner: Address


class Receiver(_Part):
    """A Node whose owner reads what the function writes to /capsule/out/<name>/."""

    name: Name
    node: Address


class Limits(_Part):
    """Resources of the container."""

    seconds: Annotated[int, Field(ge=1, le=7 * 86400)] = 60
    memory: Annotated[Size, Field(ge=16 << 20)] = 256 << 20
    scratch: Annotated[Size, Field(ge=1 << 20)] = 256 << 20
    pids: Annotated[int, Field(ge=1, le=4096)] = 64
    cpus: Annotated[float, Field(ge=0.1, le=256)] = 1.0


class Fees(_Part):
    """What is paid, in wei: to the Executor, and to each member of the Committee that votes."""

    executor: Fee
    member: Fee


class TaskFile(_Part):
    """One task as a person describes it. Paths are relative to the file."""

    function: Function
    inputs: Annotated[tuple[Input, ...], Field(max_length=16)] = ()
    receivers: Annotated[tuple[Receiver, ...], Field(min_length=1, max_length=16)]
    fees: Fees
    runtime_image: Hash | None = None
    committee: Annotated[int, Field(ge=3, le=11)] = 3
    deadlines: Annotated[int, Field(ge=0, le=3)] = 0
    connections: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    devices: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _unique_names(self) -> TaskFile:
        for what, parts in (("inputs", self.inputs), ("receivers", self.receivers)):
            names = [part.name for part in parts]
            if len(set(names)) != len(names):
                raise ValueError(f"two {what} have one name")
        return self

    def to_request(self) -> dict[str, Any]:
        """The JSON body of ``POST /v1/tasks``; wei as decimal strings, since JSON's numbers are
        doubles to many readers. The function must be sealed by then."""
        function = self.function
        return {
            "function": {
                "cid": function.cid, "owner": function.owner, "digest": _hex(function.digest)
            },
            "command": list(function.command),
            "runtime_image": _hex(self.runtime_image),
            "inputs": [part.model_dump() for part in self.inputs],
            "receivers": [part.model_dump() for part in self.receivers],
            "connections": list(self.connections),
            "devices": list(self.devices),
            "limits": {
                "seconds": self.limits.seconds,
                "memory_bytes": self.limits.memory,
                "scratch_bytes": self.limits.scratch,
                "pids": self.limits.pids,
                "cpu_milli": round(self.limits.cpus * 1000),
            },
            "fees": {
                "executor_wei": str(self.fees.executor), "member_wei": str(self.fees.member)
            },
            "committee_size": self.committee,
            "class_id": self.deadlines,
        }  # fmt: skip


def load_task_file(path: Path) -> TaskFile:
    """Read and validate a task file. Raises `TaskFileInvalid`."""
    raw = read_given(path, _MAX_FILE, TaskFileInvalid, "check the path")
    try:
        return TaskFile.model_validate(tomllib.loads(raw.decode()))
    except ValidationError as error:
        raise TaskFileInvalid(
            f"{path}: {first_fault(error)}", "correct it; docs/task-file.md explains every key"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskFileInvalid(f"{path} is no TOML: {error}", "correct that line") from error


def _hex(text: str | None) -> str | None:
    return None if text is None else "0x" + text.removeprefix("sha256:").removeprefix("0x")

"""Evidence: everything the Machine states of itself for one question, signed by its session.

Every claim is taken when the question comes; nothing is kept from an earlier answer. What is not
real is named in `simulated`, what nobody looked at in `not_checked`: silence would be a claim too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import agent as package
from agent import host
from agent.boot import BootParameters
from agent.engine import Engine
from agent.events import EventLog
from agent.formats.evidence import PI_ONLY, Evidence, build
from agent.formats.measure import answer_ranges, measure_tree
from agent.formats.messages import AFTER, Question
from agent.formats.outcome import Outcome, Transcript
from agent.inventory import inventory
from agent.measured import NOT_CHECKED, Measured
from agent.programs import Programs
from agent.scratch import Scratch
from agent.session import Session

TREE = Path(package.__file__).parent


@dataclass(slots=True)
class TaskFacts:
    """What the task's work so far adds to the Evidence; `work` keeps it up to date."""

    image_id: bytes | None = None
    image_present: bool = False
    function_cid: str | None = None
    function_digest: bytes | None = None
    connections: tuple[str, ...] = ()
    proxy_counts: dict[str, int] = field(default_factory=dict)
    devices: tuple[tuple[str, str], ...] = ()
    outcome: Outcome | None = None


class Witness:
    """Collects the claims of this boot."""

    def __init__(
        self,
        boot: BootParameters,
        session: Session,
        engine: Engine,
        scratch: Scratch,
        measured: Measured | None = None,
        events: EventLog | None = None,
    ) -> None:
        self._boot, self._session, self._engine = boot, session, engine
        self._scratch, self._measured, self._events = scratch, measured, events
        self._vouch = PI_ONLY if measured is None else measured.vouch
        self._programs = Programs()
        self._begun = time.monotonic()
        self._count = 0

    def warm(self) -> None:
        """Hash the running programs ahead: a first answer then takes as long as any other."""
        self._programs.running()

    def answer(self, question: Question, facts: TaskFacts) -> Evidence:
        """Collect and sign. Blocks for some tens of milliseconds: call it from a thread.

        Raises ScratchError; TpmError, KernelUnreadable or Unmeasured where a boot image runs.
        """
        self._count += 1
        claims = self._claims(question, facts)
        return build(claims, question.nonce, self._session.signer.sign)

    def _claims(self, question: Question, facts: TaskFacts) -> dict[str, object]:
        outcome, running = facts.outcome, self._programs.running()
        claims: dict[str, object] = {
            "chain": question.context.to_body(),
            "boot": {
                "image": self._boot.image,
                "command_line": host.command_line(),
                "count": self._boot.boot_count,
                "nonce": self._boot.boot_nonce,
            },
            "session": {"hpke": self._session.hpke, "signing": self._session.signing},
            "agent": {"digest": measure_tree(TREE)},
            "executable": running.programs,
            "modules": host.modules(),
            "mounts": host.mounts(),
            "sockets": host.sockets(),
            "containers": self._containers() | {"confined": running.confined},
            "runtime": {"image": facts.image_id, "present": facts.image_present},
            "function": {"cid": facts.function_cid, "digest": facts.function_digest},
            "network": {
                "policy": list(facts.connections),
                "counts": dict(facts.proxy_counts),
            },
            "cable": question.cable,
            "inventory": inventory(self._scratch.disks.present()),
            "memory": host.memory(),
            "devices": [list(each) for each in facts.devices],
            "scratch": self._scratch.claim(),
            "ranges": answer_ranges(question.nonce, TREE),
            "counters": {
                "boot": self._boot.boot_count,
                "evidence": self._count,
                **self._clocks(),
            },
            "vouch": self._vouch,
            "simulated": list(self._boot.simulated),
            "not_checked": list(NOT_CHECKED[self._vouch]),
        }
        if question.context.phase == AFTER:
            claims |= _after(question)
            kept = Transcript.open(question.transcript).outcome
            outcome = kept if outcome is None else outcome
        if self._measured is not None:
            claims |= self._measured.claims(question, self._session.key_hash)
        claims["outcome"] = None if outcome is None else outcome.to_body()
        # Behind the inventory: what comes between the two is in the events, and never in neither.
        claims["events"] = None if self._events is None else self._events.rows()
        return claims

    def _clocks(self) -> dict[str, object]:
        """Both read at once: milliseconds since the Agent began, and since the epoch."""
        run, date = time.monotonic(), time.time()
        return {"clock_ms": int((run - self._begun) * 1000), "time_ms": int(date * 1000)}

    def _containers(self) -> dict[str, object]:
        """Own containers with the settings that the engine really applied, and foreign ones."""
        own = []
        for container in self._engine.own():
            attributes = container.attrs
            applied = attributes["HostConfig"]
            own.append(
                {
                    "id": str(container.id),
                    "image": bytes.fromhex(attributes["Image"].removeprefix("sha256:")),
                    "running": bool(attributes["State"]["Running"]),
                    "user": attributes["Config"]["User"],
                    "flags": _flags(applied),
                }
            )
        return {
            "own": sorted(own, key=lambda each: str(each["id"])),
            "foreign": self._engine.count_foreign(),
        }


def _flags(applied: dict[str, object]) -> dict[str, object]:
    """The engine's own account of a container, as far as it decides what the function can do."""
    options = applied["SecurityOpt"]
    assert isinstance(options, list)
    mounts, devices = applied.get("Mounts") or [], applied.get("Devices") or []
    assert isinstance(mounts, list)
    assert isinstance(devices, list)
    return {
        "network": applied["NetworkMode"],
        "read_only": applied["ReadonlyRootfs"],
        "cap_add": applied["CapAdd"] or [],
        "cap_drop": applied["CapDrop"] or [],
        "privileged": applied["Privileged"],
        "no_new_privileges": "no-new-privileges:true" in options,
        "seccomp": any(option.startswith("seccomp={") for option in options),
        "memory_bytes": applied["Memory"],
        "memory_swap_bytes": applied["MemorySwap"],
        "pids": applied["PidsLimit"],
        "cpu_milli": _integer(applied["NanoCpus"]) // 1_000_000,
        "mounts": sorted([each["Target"], bool(each.get("ReadOnly"))] for each in mounts),
        "devices": sorted(each["PathInContainer"] for each in devices),
        "ipc": applied["IpcMode"],
        "pid": applied["PidMode"],
        "log": (applied.get("LogConfig") or {})["Type"],  # type: ignore[index]
    }


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _after(question: Question) -> dict[str, object]:
    """AFTER only: what the Node kept of the session that ran the task."""
    return {
        "erasure": question.transcript,
        "during": [list(answer) for answer in question.during],
        "proof": question.proof,
    }

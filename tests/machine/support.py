"""A Pi in miniature for tests: blocks in a dict, real capsules, real Machine, real Docker."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats import hpke
from agent.formats.archive import pack, unpack
from agent.formats.capsule import Kind, inspect, open_stream, seal_stream
from agent.formats.cid import check_block
from agent.formats.evidence import Evidence
from agent.formats.messages import AFTER, BEFORE, DURING, Context, Prepare, Question, Release
from agent.formats.outcome import Outcome, State, Status, Transcript
from agent.formats.p256 import SigningKey
from agent.formats.protocol import release_info, result_info
from agent.formats.rpc import RpcError
from agent.formats.taskspec import FunctionRef, Input, Limits, Receiver, TaskSpec, commitment_of
from nodeclient.core.incidents import Incident
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.local import LocalMachine, LocalSettings
from nodeclient.machine.process import AgentProcess
from nodeclient.machine.proxy import ProxyRules
from nodeclient.machine.supply import Supply
from nodeclient.ports import Machine, Session
from nodeclient.roots.software import SoftwareRoot

CHAIN, MARKET, TASK, NODE = 31337, b"\x11" * 20, 7, b"\x22" * 20
LIMITS = Limits(seconds=300, memory_bytes=128 << 20, scratch_bytes=8 << 20, pids=32, cpu_milli=1000)


def some_root() -> SoftwareRoot:
    """The same root in every process of a test."""
    return SoftwareRoot(ec.derive_private_key(7, ec.SECP256R1()))


@dataclass
class Job:
    """A task made ready: TaskSpec, content keys by CID, receivers' private keys."""

    spec: TaskSpec
    keys: dict[str, bytes]
    receivers: dict[str, bytes]

    @property
    def context(self) -> Context:
        """The BEFORE context, attempt 0."""
        return self.at(BEFORE)

    def at(self, phase: int) -> Context:
        """The context of a phase, attempt 0."""
        return Context(CHAIN, MARKET, TASK, commitment_of(self.spec.encode()), NODE, phase, 0)


@dataclass
class Pi:
    """The Node's side: a block store, owners and a LocalMachine."""

    folder: Path
    image_id: bytes
    image: Path
    lease_seconds: int = 60
    rotate_seconds: float = 600.0
    blocks: dict[str, bytes] = field(default_factory=dict)
    image_asked: int = 0
    rules: ProxyRules = field(default_factory=lambda: ProxyRules((ip_network("127.0.0.0/8"),)))
    connections: tuple[str, ...] = ()
    incidents: list[Incident] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.machine: Machine = self.new_machine()

    def new_machine(self) -> LocalMachine:
        """Another daemon's LocalMachine over the same folder, as after a restart."""
        settings = LocalSettings(
            self.folder,
            lease_seconds=self.lease_seconds,
            rotate_seconds=self.rotate_seconds,
            proxy=self.rules,
        )
        report = self.incidents.append
        return LocalMachine(settings, self.supply, self.slot, report=report)

    @property
    def supply(self) -> Supply:
        """What this Pi gives its Agent."""
        permitted, report = lambda: self.connections, self.incidents.append
        return Supply(self.get, self.put, self.find_image, permitted, report)

    @property
    def slot(self) -> KeySlot:
        """Where the channel's keys lie."""
        return KeySlot(self.folder / "channel.sealed", some_root())

    def keep_blocks(self) -> None:
        """Write the store to the folder, for a daemon that takes over."""
        (self.folder / "blocks.cbor").write_bytes(cbor2.dumps(self.blocks))

    def load_blocks(self) -> None:
        """What an earlier daemon of this folder kept."""
        self.blocks.update(cbor2.loads((self.folder / "blocks.cbor").read_bytes()))

    @property
    def label(self) -> str:
        """What marks this Machine's containers."""
        return AgentProcess(self.folder, Path("/")).label

    def processes(self) -> list[int]:
        """Agents that run from this Machine's folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                here = os.readlink(process / "cwd").startswith(str(self.folder))
                if here and b"agent" in arguments:
                    found.append(int(process.name))
        return found

    async def get(self, cid: str) -> bytes:
        if cid not in self.blocks:
            raise RpcError("missing", "no such block")
        return self.blocks[cid]

    async def put(self, cid: str, block: bytes) -> None:
        check_block(cid, block)
        self.blocks[cid] = block

    async def find_image(self, image: bytes) -> Path | None:
        self.image_asked += 1
        return self.image if image == self.image_id else None

    def seal(self, payload: bytes, kind: Kind) -> tuple[str, bytes, bytes]:
        """(cid, content key, digest) of a fresh capsule in the store."""
        owner, key = SigningKey.generate(), secrets.token_bytes(32)
        sealed = seal_stream(
            BytesIO(payload),
            self.blocks.__setitem__,
            kind=kind,
            owner=owner.public,
            sign=owner.sign,
            content_key=key,
        )
        return sealed.cid, key, sealed.digest

    def job(
        self,
        code: str,
        inputs: dict[str, bytes] | None = None,
        receivers: tuple[str, ...] = ("first", "second"),
        limits: Limits = LIMITS,
        **changes: object,
    ) -> Job:
        """A task that runs the Python text `code` as /capsule/function/main.py."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "main.py").write_text(code)
        archive = BytesIO()
        pack(source, archive)
        cid, key, digest = self.seal(archive.getvalue(), Kind.FUNCTION)
        keys, named = {cid: key}, []
        for name, payload in (inputs or {}).items():
            input_cid, input_key, _ = self.seal(payload, Kind.DATA)
            keys[input_cid] = input_key
            named.append(Input(name, input_cid, b"\x33" * 20))
        pairs = {name: hpke.generate() for name in receivers}
        fields: dict[str, object] = {
            "salt": secrets.token_bytes(32),
            "requester": b"\x44" * 20,
            "number": 0,
            "function": FunctionRef(cid, b"\x33" * 20, digest),
            "command": ("python3", "/capsule/function/main.py"),
            "runtime_image": self.image_id,
            "inputs": tuple(named),
            "receivers": tuple(
                Receiver(name, bytes([0x50 + i]) * 20, pair[1])
                for i, (name, pair) in enumerate(pairs.items())
            ),
            "connections": (),
            "devices": (),
            "limits": limits,
        }
        spec = TaskSpec(**{**fields, **changes})  # type: ignore[arg-type]
        return Job(spec, keys, {name: pair[0] for name, pair in pairs.items()})

    async def prepare(self, job: Job, min_answers: int = 3) -> object:
        order = Prepare(job.spec.encode(), job.context, min_answers)
        self.connections = job.spec.connections
        return await self.machine.call("prepare", order.to_body())

    async def ask(self, job: Job, phase: int = BEFORE, nonce: bytes | None = None) -> Evidence:
        """One question with a fresh nonce; the answer is checked for nonce and signature."""
        nonce = nonce or secrets.token_bytes(32)
        body = Question(nonce, job.at(phase)).to_body()
        evidence = Evidence.decode(_bytes(await self.machine.call("ask", body)))
        evidence.verify(nonce)
        return evidence

    async def ask_after(self, job: Job, transcript: bytes) -> Evidence:
        nonce = secrets.token_bytes(32)
        body = Question(nonce, job.at(AFTER), (), transcript).to_body()
        evidence = Evidence.decode(_bytes(await self.machine.call("ask", body)))
        evidence.verify(nonce)
        return evidence

    def release(self, job: Job, cid: str, session: Session, root: bytes) -> Release:
        info = release_info(CHAIN, MARKET, TASK, cid, root)
        return Release(cid, hpke.seal(session.hpke, info, job.keys[cid]))

    async def release_all(self, job: Job, session: Session, root: bytes) -> None:
        for cid in job.keys:
            await self.machine.call("release", self.release(job, cid, session, root).to_body())

    async def status(self) -> Status:
        return Status.from_body(await self.machine.call("status", {}))

    async def until_done(self, seconds: float = 180.0) -> Outcome:
        async with asyncio.timeout(seconds):
            while (status := await self.status()).state is not State.DONE:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert status.outcome is not None
        return status.outcome

    async def run(self, job: Job) -> Outcome:
        """Boot, attest, release and run to the end."""
        session = await self.machine.boot(1)
        await self.prepare(job)
        root = (await self.ask(job)).root
        await self.release_all(job, session, root)
        return await self.until_done()

    async def clean(self, job: Job, questions: int = 3) -> bytes:
        for _ in range(questions):
            await self.ask(job, DURING)
        transcript = _bytes(await self.machine.call("clean", {}))
        assert Transcript.open(transcript).clean
        return transcript

    def open_result(self, job: Job, name: str, cid: str) -> dict[str, bytes]:
        """What a receiver finds in its result: files by path."""
        header = inspect(cid, self.blocks.__getitem__)
        info = result_info(CHAIN, MARKET, TASK, name)
        key = hpke.open(job.receivers[name], info, header.sealed_key)
        sink = BytesIO()
        open_stream(cid, self.blocks.__getitem__, key, sink, expect_owner=None, expect_digest=None)
        sink.seek(0)
        target = self.folder / f"result-{hashlib.sha256(cid.encode()).hexdigest()[:8]}"
        entries = unpack(sink, target)
        return {e.path: (target / e.path).read_bytes() for e in entries if not e.folder}


def _bytes(answer: object) -> bytes:
    assert isinstance(answer, bytes)
    return answer

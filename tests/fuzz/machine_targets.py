"""What a Machine sends to its Pi and the Pi to it, and what members read out of Evidence."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from agent import uevents
from agent.boot import BootParameters
from agent.formats import archive, capsule, cbor, evidence, hpke
from agent.formats.bootimage import BootManifest, KernelMap
from agent.formats.cbor import FormatError
from agent.formats.cid import cid_from_digest, digest_of
from agent.formats.context import AFTER, Context
from agent.formats.endorsement import Challenge, Endorsement
from agent.formats.events import Event
from agent.formats.evidence import Evidence
from agent.formats.image import ImageTarError, check_image_tar
from agent.formats.messages import Prepare, Question, Release
from agent.formats.outcome import Outcome, State, Status, Transcript
from agent.formats.p256 import SigningKey
from agent.formats.protocol import Frame, FrameKind, read_frame
from agent.formats.quote import Quote
from agent.formats.rotation import Half, Offer
from agent.formats.rpc import RpcError
from agent.formats.taskspec import TaskSpec, commitment_of, open_commitment
from agent.proxy import MAX_HEAD, _read_target
from nodeclient.core.appraisal import AttestationResult, appraise
from nodeclient.core.evidence_policy import Remembered
from nodeclient.core.tpm.facts import TpmFacts
from nodeclient.core.types import Phase, Statement, Verdict
from nodeclient.errors import MachineError
from nodeclient.machine.handshake import read_preamble
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.order import LENGTH, BootOrder
from nodeclient.machine.resume import ResumeRecord
from tests.agent.test_session import _parameters
from tests.core import evidence_kit as kits
from tests.formats.test_fuzz import header_block, small_archive
from tests.formats.test_taskspec import SPEC
from tests.fuzz.check import Target, only, same
from tests.images.small import small_image
from tests.machine.test_link import KEYS, SESSION, hello

PRIVATE, PUBLIC = hpke.generate()
SIGNER = SigningKey.generate()
MIB = 1 << 20
BIG = 1 << 16


def body(parse: Callable[[object], object]) -> Callable[[bytes], object]:
    """A parser of decoded CBOR as one of bytes: frames and claims come like this."""
    return lambda data: parse(cbor.decode(data, 4 * MIB))


def from_body(kind: Any, *samples: Any, where: str = "") -> Target:
    """A class with `to_body` and `from_body`, whose bodies have one form."""
    return Target(
        kind.__name__,
        tuple(cbor.encode(sample.to_body()) for sample in samples),
        body(kind.from_body),
        (FormatError,),
        same(lambda value: cbor.encode(value.to_body())),  # type: ignore[attr-defined]
        (f"{kind.__module__}:{kind.__name__}.from_body",),
    )


def encoded(kind: Any, *samples: Any, errors: tuple[type[Exception], ...] = ()) -> Target:
    """A class with `encode` and `decode`, whose values have one encoding."""
    return Target(
        kind.__name__,
        tuple(sample.encode() for sample in samples),
        kind.decode,
        errors or (FormatError,),
        same(lambda value: value.encode()),  # type: ignore[attr-defined]
        (f"{kind.__module__}:{kind.__name__}.decode",),
    )


def unpack(data: bytes) -> bytes:
    """The archive that packing again what came out of one gives."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out"
        archive.unpack(BytesIO(data), target, max_bytes=MIB, max_files=16)
        packed = BytesIO()
        archive.pack(target, packed)
        return packed.getvalue()


def two_files() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        (tree / "inner").mkdir(parents=True)
        (tree / "inner" / "empty").write_bytes(b"")
        (tree / "run").write_bytes(b"#!/bin/true\n")
        (tree / "run").chmod(0o755)
        packed = BytesIO()
        archive.pack(tree, packed)
        return packed.getvalue()


def image_tar() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return small_image(Path(folder), b"content")[1].read_bytes()


def image_id(data: bytes) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return check_image_tar(Path(file.name))


def names_its_config(data: bytes, value: object) -> bool:
    """The ID is the digest of a blob that the tar holds under that name; no other is reported."""
    return isinstance(value, bytes) and b"blobs/sha256/" + value.hex().encode() in data


def at_once(work: Any) -> object:
    """Run a coroutine that waits for nothing outside; twice as fast as asyncio.run."""
    return _LOOP.run_until_complete(work)


_LOOP = asyncio.new_event_loop()


def from_stream(read: Callable[[asyncio.StreamReader], Any], data: bytes) -> object:
    async def run() -> object:
        reader = asyncio.StreamReader(limit=MAX_HEAD)
        reader.feed_data(data)
        reader.feed_eof()
        return await read(reader)

    return at_once(run())


def preamble(data: bytes) -> object:
    """As a caller's first bytes, over a real pair of sockets."""
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        near.setblocking(False)
        far.sendall(data[:BIG])
        far.shutdown(socket.SHUT_WR)
        return at_once(read_preamble(near))


def greet(data: bytes) -> object:
    """A hello from somebody whose certificate TLS has proved."""
    link = Link(LinkKeys(KEYS.boot_secret, KEYS.certificate, KEYS.key), _nothing)
    link._check_hello(link.keys, HELLO_CERTIFICATE, cbor.decode(data, BIG))
    return link.session


async def _nothing(method: str, body: object) -> object:
    return None


HELLO_CERTIFICATE = b"the Agent's certificate, which TLS has proved"
HELLO = cbor.encode(hello(KEYS.boot_secret, HELLO_CERTIFICATE))


def evidence_of(phase: Phase) -> bytes:
    return kits.make_quoted(phase).evidence().encode()


def verified(data: bytes) -> Evidence:
    """Evidence by whoever made it: the signature is over its own root, by the key it names."""
    found = Evidence.decode(data)
    found.verify(found.nonce)
    return found


def hostile_machine(phase: Phase) -> Target:
    """A Machine that signs whatever it likes, also nonsense: judged, and never by an exception.

    Affirmed is only what states the same as the honest one in everything that the asker knows.
    """
    honest = kits.make_quoted(phase)
    claims = honest.evidence().claims()
    known = ("chain", "session", "agent", "quote", "kernel", "root", "vouch", "simulated")
    facts = {name: claims[name] for name in known}

    def state(data: bytes) -> tuple[AttestationResult, dict[str, object]]:
        stated = cbor.decode(data, 4 * MIB)
        if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated):
            raise FormatError("no claims")
        signed = evidence.build(stated, honest.nonce, honest.signer)
        found = Evidence.decode(signed.encode())
        expected = honest.expected
        if phase is not Phase.DURING:
            header = Statement(1, honest.nonce, found.root, honest.session.hash, 1, 1)
            expected = replace(expected, statement=header)
        judged = appraise(found, expected, honest.reference, honest.endorsements, honest.policy)
        return judged, stated

    def meaning(_data: bytes, value: Any) -> bool:
        judged, stated = value
        if judged.verdict is not Verdict.AFFIRMING:
            return bool(judged.reasons)
        return all(stated[name] == fact for name, fact in facts.items())

    return Target(
        f"appraisal {phase.name}",
        (cbor.encode(claims),),
        state,
        (FormatError,),
        meaning,
        (
            "nodeclient.core.claims:read_inventory",
            "nodeclient.core.appraisal:appraise",
            "agent.formats.evidence:Evidence.decode",
        ),
        memory=2 * MIB,
        steps=60_000,
    )


def says_what_it_says(data: bytes, value: Any) -> bool:
    """Action and path are the message's own, and a device is one that a TaskSpec could name."""
    head = f"{value.action}@{value.path}\0".encode()
    named = re.fullmatch(r"((usb|pci):[0-9a-f]{4}:[0-9a-f]{4})?", value.device)
    return named is not None and (data.startswith(head) or "\ufffd" in value.path)


def open_sealed(data: bytes) -> bytes:
    return hpke.open(PRIVATE, b"info", data)


def all_targets() -> Iterator[Target]:
    """Every parser of this side."""
    context = Context(1, b"\1" * 20, 2, b"\2" * 32, b"\3" * 20, AFTER, 0)
    outcome = kits.OUTCOME
    signed = kits.make_kit(Phase.AFTER).transcript
    assert signed is not None
    transcript = signed.sign(kits.RUN.key)
    status = Status(State.DONE, ("bafy",), 3, outcome)
    values = cbor.encode({"a": [1, b"x", "y", None, True, -5, 1 << 70], 7: {"b": {}}})
    yield Target(
        "cbor",
        (values, SPEC.encode()),
        lambda data: cbor.decode(data, BIG),
        (FormatError,),
        same(cbor.encode),
        ("agent.formats.cbor:decode", "agent.formats.cbor:decode_counted"),
    )
    frames = (
        Frame(1, FrameKind.REQUEST, "ask", {"a": b"x"}),
        Frame(2, FrameKind.ERROR, None, ["code", "message"]),
        Frame(3, FrameKind.OK, None, [1, 2]),
    )
    yield encoded(Frame, *frames)
    stream = tuple(len(f.encode()).to_bytes(4, "big") + f.encode() for f in frames)
    yield Target(
        "frame in a stream",
        stream,
        lambda data: from_stream(read_frame, data),
        (FormatError, ConnectionError),
        lambda data, value: data[4:].startswith(value.encode()),  # type: ignore[attr-defined]
        ("agent.formats.protocol:read_frame",),
    )
    yield Target(
        "proxy request",
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",),
        lambda data: from_stream(_read_target, data),
        (),
        lambda data, value: value is None or data.startswith(b"CONNECT "),
        ("agent.proxy:_read_target",),
        codec="bytes",
    )
    yield Target(
        "preamble",
        (len(KEYS.certificate).to_bytes(2, "big") + KEYS.certificate,),
        preamble,
        (FormatError,),
        lambda data, value: data[2:].startswith(value) and len(value) <= 2048,  # type: ignore[arg-type]
        ("nodeclient.machine.handshake:read_preamble",),
        codec="bytes",
    )
    yield Target(
        "hello",
        (HELLO,),
        greet,
        (FormatError, RpcError),
        lambda data, value: data == HELLO and value == SESSION,
        ("nodeclient.machine.link:Link._check_hello",),
    )
    yield encoded(TaskSpec, SPEC, kits.SPEC)
    committed = commitment_of(SPEC.encode())
    yield Target(
        "commitment",
        (SPEC.encode(),),
        lambda data: open_commitment(data, committed),
        (FormatError,),
        only((SPEC.encode(),)),
        ("agent.formats.taskspec:open_commitment",),
    )
    yield encoded(BootParameters, *_boots())
    yield encoded(BootManifest, _manifest())
    yield encoded(KernelMap, KernelMap(1 << 40, ((0, 5), (10, 100), (4096, 1))))
    endorsement = Endorsement((b"der", b"der2"), b"ek", b"ak")
    yield encoded(Endorsement, endorsement)
    yield replace(from_body(Endorsement, endorsement), name="Endorsement as a body")
    yield encoded(Remembered, kits.before_remembered(), kits.before_quoted())
    yield from_body(Challenge, Challenge(b"\0\x44" + b"\1" * 68, b"\1\0" + b"\2" * 256))
    yield from_body(Quote, Quote(b"attest", b"signature", b"ak"))
    facts = TpmFacts(b"\1" * 32, b"\2" * 32, 3, 4, 5)
    yield from_body(TpmFacts, facts)
    yield replace(encoded(TpmFacts, facts), name="TpmFacts as kept")
    yield from_body(Half, Half(b"\1" * 32, b"\2" * 32))
    yield from_body(Offer, Offer(3, Half(b"\1" * 32, b"\2" * 32)))
    yield from_body(Context, context)
    yield from_body(Outcome, outcome)
    yield from_body(Status, status, Status(State.FRESH, (), 0, None))
    yield from_body(Prepare, Prepare(SPEC.encode(), context, 3))
    yield from_body(
        Question,
        Question(b"\1" * 32, context, ((b"\2" * 20, b"\3" * 32, b"\4" * 32),), b"t", proof=b"p"),
    )
    yield from_body(Event, Event(1, 2, "add", "usb", "1-1", "usb:46f4:0001"))
    yield Target(
        "kernel event",
        (
            b"add@/devices/a/usb1\0ACTION=add\0DEVPATH=/devices/a/usb1\0SUBSYSTEM=usb\0"
            b"PRODUCT=46f4/1/0\0SEQNUM=7\0",
            b"remove@/devices/b\0ACTION=remove\0DEVPATH=/devices/b\0PCI_ID=1AF4:1041\0",
        ),
        uevents.parse,
        (FormatError,),
        says_what_it_says,
        ("agent.uevents:parse",),
        codec="bytes",
    )
    yield from_body(Release, Release(SPEC.function.cid, b"\1" * 80))
    yield Target(
        "transcript",
        (transcript,),
        Transcript.open,
        (FormatError,),
        only((transcript,)),
        ("agent.formats.outcome:Transcript.open",),
    )
    before = evidence_of(Phase.BEFORE)
    yield Target(
        "evidence",
        (before,),
        verified,
        (FormatError,),
        only((before,)),
        ("agent.formats.evidence:Evidence.decode",),
        steps=20_000,
    )
    whole = Evidence.decode(before)
    leaf, path = whole.disclose("session")
    yield Target(
        "disclosed claim",
        (leaf,),
        lambda data: evidence.verify_claim(data, path, whole.root),
        (FormatError,),
        only((leaf,)),
        ("agent.formats.evidence:verify_claim",),
        codec="bytes",
    )
    for phase in Phase:
        yield hostile_machine(phase)
    header = header_block()
    yield Target(
        "capsule header",
        (header,),
        capsule.parse_header,
        (FormatError,),
        only((header,)),
        ("agent.formats.capsule:parse_header", "agent.formats.capsule:inspect"),
    )
    sealed = hpke.seal(PUBLIC, b"info", b"a content key of thirty-two bytes")
    yield Target(
        "hpke",
        (sealed,),
        open_sealed,
        (FormatError,),
        only((sealed,)),
        ("agent.formats.hpke:open",),
        codec="bytes",
    )
    yield Target(
        "archive",
        (small_archive(), two_files()),
        unpack,
        (FormatError,),
        lambda data, value: value == data,
        ("agent.formats.archive:unpack",),
        codec="bytes",
        memory=3 * MIB,
    )
    yield Target(
        "image tar",
        (image_tar(),),
        image_id,
        (ImageTarError,),
        names_its_config,
        ("agent.formats.image:check_image_tar",),
        codec="bytes",
        memory=4 * MIB,
        steps=20_000,
    )
    yield Target(
        "cid",
        (SPEC.function.cid.encode(),),
        lambda data: digest_of(data.decode("utf-8", "surrogateescape")),
        (FormatError,),
        lambda data, value: cid_from_digest(value).encode() == data,  # type: ignore[arg-type]
        ("agent.formats.cid:digest_of",),
        codec="bytes",
    )
    record = ResumeRecord(**_resume_fields())
    order = BootOrder(Cable("cable", "52:54:00:77:00:01"), Path("/x"), b"\1" * 32, b"parameters")
    yield Target(
        "BootOrder",
        (order.encode()[LENGTH:],),
        BootOrder.decode,
        (FormatError,),
        lambda data, value: value.encode()[LENGTH:] == data,  # type: ignore[attr-defined]
        ("nodeclient.machine.netboot.order:BootOrder.decode",),
    )
    yield encoded(ResumeRecord, record, errors=(MachineError,))


def _resume_fields() -> dict[str, Any]:
    given: dict[str, Any] = {
        "pid": 7,
        "started": 9,
        "process": (7, 9),
        "port": 20_001,
        "image": b"\1" * 32,
        "hpke": b"\2" * 32,
        "signing": b"\3" * 64,
    }
    return {name: given[name] for name in ResumeRecord.__dataclass_fields__}


def _manifest() -> BootManifest:
    """Every digest another, every size a small one."""
    given: dict[str, Any] = {"command_line": "quiet"}
    for number, name in enumerate(BootManifest.__dataclass_fields__, 1):
        if name.startswith("pcr") or name == "programs":
            given[name] = (bytes([number]) * 32, bytes([number, 0]) * 16)
        elif name.endswith("_size"):
            given[name] = number
        elif name not in ("command_line", "version"):
            given[name] = bytes([number]) * 32
    return BootManifest(**given)


def _boots() -> tuple[BootParameters, ...]:
    return (_parameters(Path("/run/x")),)

"""One honest task, phase by phase, that a test can change in a single place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from agent.formats.cable import COUNTERS, CableReport, Sighting
from agent.formats.cid import cid_of
from agent.formats.evidence import (
    PI_ONLY,
    TPM_QUOTED,
    Evidence,
    build,
    fold_nonces,
    nonce_path,
    session_key_hash,
)
from agent.formats.messages import Context, Ending, Outcome, Transcript
from agent.formats.p256 import SigningKey
from agent.formats.taskspec import FunctionRef, Input, Limits, Receiver, TaskSpec, commitment_of
from nodeclient.core.appraisal import AttestationResult, appraise
from nodeclient.core.evidence_policy import (
    ERASED,
    ERASED_QUOTED,
    AppraisalPolicy,
    BootReference,
    Endorsements,
    Expected,
    Nonce,
    ReferenceValues,
    Remembered,
    remember,
)
from nodeclient.core.types import Address, Phase, RootClass, Statement
from tests.core import tpm_builder as pcs
from tests.core.erasure_kit import ERASER, MEMORY, Erasure, honest_erasure
from tests.core.tpm_builder import Pc, SoftTpm

MEMBER, OTHER, NODE = (Address(bytes([n]) * 20) for n in (1, 2, 3))
OWNER = Address(b"\x05" * 20)
MARKET = Address(b"\x0a" * 20)
IMAGE, AGENT, RUNTIME, FUNCTION = (bytes([n]) * 32 for n in (0x21, 0x22, 0x23, 0x24))
FUNCTION_CID, INPUT_CID, RESULT_B, RESULT_C = (cid_of(bytes([n])) for n in range(4))
KERNEL, ROOT = (
    ((4096, 4096, bytes([n]) * 32), (0, 4096, bytes([n + 1]) * 32)) for n in (0x33, 0x35)
)
DATE = 1_790_000_000_000  # milliseconds since the epoch
RANGES = (("runner.py", 10, 20, b"\x31" * 32), ("seal.py", 0, 7, b"\x32" * 32))

SPEC = TaskSpec(
    salt=bytes(32),
    requester=OWNER,
    number=0,
    function=FunctionRef(FUNCTION_CID, OWNER, FUNCTION),
    command=("python3", "/capsule/function/main.py"),
    runtime_image=RUNTIME,
    inputs=(Input("b", INPUT_CID, OWNER),),
    receivers=(
        Receiver("b", OWNER, b"\x41" * 32),
        Receiver("c", Address(b"\x06" * 20), b"\x42" * 32),
    ),
    connections=("names.example:443",),
    devices=("usb:1d6b:0002", "/dev/ttyUSB0"),
    limits=Limits(60, 64 << 20, 8 << 20, 32, 500),
)
INVENTORY: dict[str, Any] = {
    "pci": [
        ["0000:00:01.0", "0x8086", "0x7000", "0x060100", "0x1af4 0x1100", "0x00", ""],
    ],
    "usb": [["usb1", "1d6b", "0001", "", "0100", "0:090000", "usb"]],
    "block": [["vda", 1000, 0, 1, "pci:1af4:1042", "", ""]],
    "net": [["eth0", "52:54:00:00:00:01", 1, "pci:1af4:1041"]],
}
CONTAINER: dict[str, Any] = {
    "id": "c1",
    "image": RUNTIME,
    "running": True,
    "user": "65534:65534",
    "flags": {
        "network": "none",
        "read_only": True,
        "cap_add": [],
        "cap_drop": ["ALL"],
        "privileged": False,
        "no_new_privileges": True,
        "seccomp": True,
        "memory_bytes": 64 << 20,
        "memory_swap_bytes": 64 << 20,
        "pids": 32,
        "cpu_milli": 500,
        "mounts": [
            ["/capsule/function", True],
            ["/capsule/in", True],
            ["/capsule/out", False],
            ["/capsule/proxy.sock", True],
        ],
        "devices": [],
        "ipc": "private",
        "pid": "",
        "log": "none",
    },
}
ANSWERS = tuple(
    (member, bytes([n]) * 32, bytes([n + 9]) * 32)
    for n, member in enumerate((MEMBER, OTHER, MEMBER), 1)
)
OUTCOME = Outcome(Ending.RAN, 0, {"b": RESULT_B, "c": RESULT_C}, (), (), 3)


@dataclass
class Session:
    """Keys of one boot."""

    hpke: bytes
    key: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def hash(self) -> bytes:
        return session_key_hash(self.hpke, self.key.public)


TPM = SigningKey.generate()
RUN, FRESH = Session(b"\x51" * 32), Session(b"\x52" * 32)


@dataclass
class Kit:
    """Everything that one appraisal needs; change a field, then ``appraise``."""

    phase: Phase
    session: Session
    claims: dict[str, Any]
    expected: Expected
    nonce: bytes
    signer: Callable[[bytes], bytes]
    transcript: Transcript | None = None
    transcript_signer: SigningKey = RUN.key
    reference: ReferenceValues = ReferenceValues(  # noqa: RUF009 - frozen
        frozenset({IMAGE}), frozenset({AGENT}), frozenset({RUNTIME}), RANGES
    )
    endorsements: Endorsements = Endorsements(RootClass.TPM2)  # noqa: RUF009
    policy: AppraisalPolicy = AppraisalPolicy(frozenset({PI_ONLY}))  # noqa: RUF009
    pc: Pc | None = None
    erasure: Erasure | None = None
    restate: Mapping[str, Any] = field(default_factory=dict)

    def expect(self, **changes: Any) -> None:
        self.expected = replace(self.expected, **changes)

    def evidence(self) -> Evidence:
        if self.transcript is not None:
            self.claims["erasure"] = self.transcript.sign(self.transcript_signer)
        if self.erasure is not None:
            self.claims["proof"] = self.erasure.encode()
        if self.pc is not None:
            said = self.claims.get("chain")
            step = Context.from_body(said) if isinstance(said, dict) else context(self.phase)
            self.pc.state(self.claims, self.nonce, self.session.hash, step)
        return build(self.claims, self.nonce, self.signer)

    def appraise(self) -> AttestationResult:
        evidence = self.evidence()
        if self.phase is not Phase.DURING:
            statement = Statement(
                self.expected.attempt, self.nonce, evidence.root, self.session.hash, 1, 1
            )
            self.expect(statement=replace(statement, **self.restate))
        return appraise(evidence, self.expected, self.reference, self.endorsements, self.policy)


def before_remembered() -> Remembered:
    return remember(build(base_claims(Phase.BEFORE, RUN), bytes(32), RUN.key.sign))


def before_quoted() -> Remembered:
    """What is remembered of the BEFORE Evidence of a PC with a TPM."""
    kit = make_quoted(Phase.BEFORE)
    return remember(kit.evidence())


def make_quoted(phase: Phase) -> Kit:
    """As ``make_kit``, of a PC whose TPM vouches: the second boot's clock runs on."""
    kit = make_kit(phase)
    late = {Phase.BEFORE: 0, Phase.DURING: 1, Phase.AFTER: 2}[phase]
    resets = 9 if phase is Phase.AFTER else 7  # in between the eraser was booted
    kit.pc = Pc(SoftTpm(TPM, time_ms=5000 + late, resets=resets))
    kit.claims |= {
        "vouch": TPM_QUOTED,
        "kernel": [list(entry) for entry in KERNEL],
        "root": [list(entry) for entry in ROOT],
        "scratch": {
            "kind": "dm-crypt",
            "cipher": "aes-xts-plain64",
            "key_bits": 512,
            "devices": [] if phase is Phase.AFTER else ["dm-0", "dm-1"],
        },
    }
    if kit.transcript is not None:
        kit.transcript = replace(kit.transcript, checked=dict.fromkeys(ERASED_QUOTED, True))
    boot = BootReference(
        image=IMAGE,
        pcr4=(pcs.UKI, pcs.INNER),
        pcr9=(pcs.OPTIONS, pcs.INITRD),
        pcr11=pcs.STUB,
        command_line="quiet",
        agent=AGENT,
        kernel=KERNEL,
        root=ROOT,
    )
    kit.reference = replace(kit.reference, boot=boot, eraser=ERASER)
    kit.endorsements = Endorsements(RootClass.TPM2, pcs.sha(kit.pc.tpm.public), ek_proven=True)
    kit.policy = AppraisalPolicy(frozenset({TPM_QUOTED}))
    if phase is not Phase.BEFORE:
        kit.expect(before=before_quoted())
    if phase is Phase.AFTER:
        kit.erasure = honest_erasure(TPM, resets=8)
    return kit


def base_claims(phase: Phase, session: Session) -> dict[str, Any]:
    """What an honest Machine states in ``phase``."""
    count = 8 if phase is Phase.AFTER else 7
    busy = phase is not Phase.AFTER
    claims: dict[str, Any] = {
        "chain": context(phase).to_body(),
        "boot": {
            "image": IMAGE,
            "command_line": "quiet",
            "count": count,
            "nonce": bytes([count]) * 32,
        },
        "session": {"hpke": session.hpke, "signing": session.key.public},
        "agent": {"digest": AGENT},
        "executable": [["/usr/bin/python3", b"\x61" * 32, 1]],
        "modules": [["overlay", 4096, "Live"]],
        "mounts": [["/", "squashfs", "/dev/root", "ro"]],
        "sockets": [["tcp", "127.0.0.1", 22]],
        "containers": {"own": [], "foreign": 0, "confined": phase is Phase.DURING},
        "runtime": {"image": RUNTIME if busy else None, "present": busy},
        "function": {"cid": FUNCTION_CID if busy else None, "digest": None},
        "network": {"policy": list(SPEC.connections) if busy else [], "counts": {"refused": 0}},
        "cable": cable(phase).encode(),
        "inventory": deepcopy(INVENTORY),
        "memory": deepcopy(MEMORY),
        "devices": [],
        "events": [],
        "ranges": [list(entry) for entry in RANGES],
        "scratch": {"kind": "tmpfs", "cipher": "", "key_bits": 0, "devices": []},
        "counters": {"boot": count, "evidence": 1, "clock_ms": 100, "time_ms": DATE},
        "vouch": PI_ONLY,
        "simulated": [],
        "not_checked": ["firmware"],
        "outcome": None,
    }
    if phase is Phase.DURING:
        claims["containers"]["own"] = [deepcopy(CONTAINER)]
        claims["function"]["digest"] = FUNCTION
        claims["counters"] |= {"evidence": 2, "clock_ms": 200, "time_ms": DATE + 100}
    if phase is Phase.AFTER:
        claims["counters"] |= {"time_ms": DATE + 60_000}
        claims["outcome"] = OUTCOME.to_body()
        claims["during"] = [list(answer) for answer in ANSWERS]
        claims["proof"] = b""
    return claims


ANSWERS = tuple(
    (member, bytes([n]) * 32, bytes([n + 9]) * 32)
    for n, member in enumerate((MEMBER, OTHER, MEMBER), 1)
)


def cable(phase: Phase, **more: int) -> CableReport:
    """What an honest Pi says of its cable; `more` frames since this boot began, by counter. The
    firmware's own frames come before the Machine runs."""
    began = dict.fromkeys(COUNTERS, 5)
    if phase is Phase.AFTER:  # the boots between added theirs
        began |= {"stray_booting": 40, "stray_off": 9}
    now = {name: value + more.get(name, 0) for name, value in began.items()}
    now["stray_booting"] += 14
    seen = [Sighting("udp", "10.77.0.2", 68, "192.0.2.1", 53, 1)] if "stray_running" in more else []
    return CableReport(began, now, tuple(seen))


def cable_after(**more: int) -> CableReport:
    """In AFTER: frames that the boot of the run sent, after the last question of DURING."""
    honest = cable(Phase.AFTER)
    began = {name: value + more.get(name, 0) for name, value in honest.began.items()}
    return CableReport(
        began, {name: value + more.get(name, 0) for name, value in honest.now.items()}
    )


def context(phase: Phase) -> Context:
    return Context(31337, MARKET, 4, commitment_of(SPEC.encode()), NODE, int(phase), 1)


def make_kit(phase: Phase) -> Kit:
    """The unmodified control of one phase, as one member sees it."""
    session = FRESH if phase is Phase.AFTER else RUN
    nonces = {MEMBER: b"\x71" * 32, OTHER: b"\x72" * 32}
    folded = phase is not Phase.DURING
    expected = Expected(
        chain_id=31337,
        market=MARKET,
        task=4,
        commitment=commitment_of(SPEC.encode()),
        node=NODE,
        phase=phase,
        attempt=1,
        nonce=Nonce(nonces[MEMBER], MEMBER, nonce_path(nonces, MEMBER))
        if folded
        else Nonce(nonces[MEMBER]),
        spec=SPEC,
        before=None if phase is Phase.BEFORE else before_remembered(),
        member=MEMBER,
        committee=frozenset({MEMBER, OTHER}),
        answers=tuple((nonce, root) for who, nonce, root in ANSWERS if who == MEMBER),
        fetched=frozenset({RESULT_B, RESULT_C}),
    )
    kit = Kit(
        phase=phase,
        session=session,
        claims=base_claims(phase, session),
        expected=expected,
        nonce=fold_nonces(nonces) if folded else nonces[MEMBER],
        signer=session.key.sign,
    )
    if phase is Phase.AFTER:
        kit.transcript = Transcript(
            RUN.hpke,
            RUN.key.public,
            context(Phase.DURING),
            OUTCOME,
            tuple((nonce, root) for _, nonce, root in ANSWERS),
            {"containers": 1},
            dict.fromkeys(ERASED, True),
        )
    return kit

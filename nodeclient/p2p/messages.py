"""What Nodes say to each other: one frozen class per request, canonical CBOR on the wire.

Every field is bounded here, so a handler can trust the shape and only has to judge the meaning.
A message has one encoding: what comes out must pack to the bytes that came in. pydantic alone would
skip fields that it does not know, and take text for bytes and booleans for integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.endorsement import MAX_BLOB, MAX_SECRET
from agent.formats.evidence import MAX_EVIDENCE
from agent.formats.taskspec import MAX_TASKSPEC
from nodeclient.core.running import MAX_RUNNING
from nodeclient.core.types import Address, Phase, Statement, TaskId, Verdict, Vote

MAX_MESSAGE = 4 << 20  # bytes, Evidence inside
MAX_ITEMS = 512  # CBOR items: the longest message names 32 nonces; decoding costs by the item
MAX_OUTCOME = 64 << 10

Bytes20 = Annotated[bytes, Field(min_length=20, max_length=20)]
Bytes32 = Annotated[bytes, Field(min_length=32, max_length=32)]
Small = Annotated[int, Field(ge=0, le=255)]
Word = Annotated[int, Field(ge=0, lt=2**256)]
BlockNumber = Annotated[int, Field(ge=0, lt=2**63)]
Cid = Annotated[str, Field(min_length=1, max_length=80)]
Consent = Annotated[bytes, Field(max_length=2048)]


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """To a data owner: the TaskSpec that would use its Capsules."""

    spec: Annotated[bytes, Field(max_length=MAX_TASKSPEC)]
    committee_size: Small


@dataclass(frozen=True, slots=True)
class Brief:
    """To Executor and members: HPKE-sealed CBOR [TaskSpec, consents]."""

    commitment: Bytes32
    sealed: Annotated[bytes, Field(max_length=MAX_TASKSPEC + 64 * 1024)]


@dataclass(frozen=True, slots=True)
class NonceRequest:
    """To a member: its nonce for a (phase, attempt)."""

    commitment: Bytes32
    phase: Small
    attempt: Small


@dataclass(frozen=True, slots=True)
class StatementFields:
    """``core.types.Statement`` on the wire."""

    attempt: Small
    nonce_root: Bytes32
    evidence_root: Bytes32
    session_key_hash: Bytes32
    r: Word
    s: Word

    def statement(self) -> Statement:
        """The value the rules use."""
        return Statement(
            self.attempt, self.nonce_root, self.evidence_root, self.session_key_hash, self.r, self.s
        )


@dataclass(frozen=True, slots=True)
class AppraisalRequest:
    """To a member: Evidence of a phase, with the nonces that were folded into it."""

    commitment: Bytes32
    phase: Small
    statement: StatementFields
    evidence: Annotated[bytes, Field(max_length=MAX_EVIDENCE)]
    nonces: Annotated[tuple[tuple[Bytes20, Bytes32], ...], Field(max_length=32)]


@dataclass(frozen=True, slots=True)
class VoteMessage:
    """A vote, from a member to the Executor or to a fellow member."""

    commitment: Bytes32
    task: Word
    phase: Small
    attempt: Small
    header: Bytes32
    verdict: Small
    valid_until: BlockNumber
    member: Bytes20
    r: Bytes32
    vs: Bytes32


@dataclass(frozen=True, slots=True)
class Question:
    """To the Executor: Evidence over the asker's own nonce (a member in DURING, or a broker)."""

    commitment: Bytes32
    nonce: Bytes32
    during: bool


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """To the Executor: the Evidence behind the BEFORE record."""

    commitment: Bytes32


@dataclass(frozen=True, slots=True)
class EndorsementRequest:
    """To the Executor: whose TPM is it? Answered with ``agent.formats.endorsement.Endorsement``."""

    commitment: Bytes32


@dataclass(frozen=True, slots=True)
class ActivationRequest:
    """To the Executor's Machine: a secret that only the TPM of the endorsement can open.

    ``blob`` and ``secret`` as in ``agent.formats.endorsement.Challenge``. The answer is the secret,
    or no byte at all when the TPM refused.
    """

    commitment: Bytes32
    blob: Annotated[bytes, Field(max_length=MAX_BLOB)]
    secret: Annotated[bytes, Field(max_length=MAX_SECRET)]


@dataclass(frozen=True, slots=True)
class MotionQuestion:
    """Between a candidate and a member of its admission's Committee: which motion it is about.

    To the member: its vote, please. To the candidate: its root's endorsement.
    """

    motion: Word


@dataclass(frozen=True, slots=True)
class MotionVoteMessage:
    """A member's affirming vote on an admission: EIP-2098 signature (r, vs), last block."""

    valid_until: BlockNumber
    r: Word
    vs: Word


@dataclass(frozen=True, slots=True)
class RootActivation:
    """To a candidate's root TPM: as ``ActivationRequest``. The answer is the secret."""

    motion: Word
    blob: Annotated[bytes, Field(max_length=MAX_BLOB)]
    secret: Annotated[bytes, Field(max_length=MAX_SECRET)]


@dataclass(frozen=True, slots=True)
class RootChallenge:
    """To a candidate's root: sign a member's fresh number. The answer is r‖s."""

    motion: Word
    nonce: Bytes32


@dataclass(frozen=True, slots=True)
class IncidentReport:
    """To a member, from the Executor: what it noticed on its own Machine in the boot of ``phase``
    and ``attempt``, and whether it gave that boot up. ``kind`` as in ``core.incidents.Kind``.
    """

    commitment: Bytes32
    phase: Small
    attempt: Small
    kind: Annotated[str, Field(min_length=1, max_length=16)]
    text: Annotated[str, Field(max_length=200)]
    ended: bool


@dataclass(frozen=True, slots=True)
class KeyRelease:
    """To the Executor: a content key sealed to the session key."""

    commitment: Bytes32
    cid: Cid
    sealed: Annotated[bytes, Field(max_length=512)]


@dataclass(frozen=True, slots=True)
class ResultNotice:
    """To a receiver: a result exists."""

    commitment: Bytes32


@dataclass(frozen=True, slots=True)
class ResultQuestion:
    """To a member: how did the run end, and which Capsule is the asker's result?"""

    commitment: Bytes32


@dataclass(frozen=True, slots=True)
class ResultAnswer:
    """How the run ended (CBOR of ``Outcome``, with nobody's results but the asker's), and the
    session key that signed the results.
    """

    outcome: Annotated[bytes, Field(max_length=MAX_OUTCOME)]
    owner: Annotated[bytes, Field(min_length=64, max_length=64)]


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """One block by CID."""

    cid: Cid


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """To any peer: what do you run? Answered with ``RunningAnswer`` over this nonce."""

    nonce: Bytes32


@dataclass(frozen=True, slots=True)
class RunningAnswer:
    """``core.running.RunningSet``, encoded, and the root key's signature r‖s over it."""

    statement: Annotated[bytes, Field(max_length=MAX_RUNNING)]
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]


def statement_fields(statement: Statement) -> StatementFields:
    """A Statement as it goes over the wire."""
    return StatementFields(
        statement.attempt,
        statement.nonce_root,
        statement.evidence_root,
        statement.session_key_hash,
        statement.r,
        statement.s,
    )


def vote_message(commitment: bytes, vote: Vote) -> VoteMessage:
    """A Vote as it goes over the wire."""
    return VoteMessage(
        commitment,
        vote.task,
        int(vote.phase),
        vote.attempt,
        vote.header,
        int(vote.verdict),
        vote.valid_until,
        vote.member,
        vote.r,
        vote.vs,
    )


def vote_of(message: VoteMessage) -> Vote:
    """The value the rules use. Raises ValueError for an unknown phase or verdict."""
    return Vote(
        TaskId(message.task),
        Phase(message.phase),
        message.attempt,
        message.header,
        Verdict(message.verdict),
        message.valid_until,
        Address(message.member),
        message.r,
        message.vs,
    )


Message = TypeVar("Message")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def pack(message: object) -> bytes:
    """Canonical CBOR of a message."""
    return cbor.encode(_adapter(type(message)).dump_python(message))


def unpack(kind: type[Message], body: bytes) -> Message:
    """Parse a peer's bytes.

    Raises:
        FormatError: not this message, or a field beyond its bound.
    """
    try:
        message: Message = _adapter(kind).validate_python(cbor.decode(body, MAX_MESSAGE, MAX_ITEMS))
        again = pack(message)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise FormatError(
            f"message {kind.__name__}: field {where or '(all)'} is malformed"
        ) from None
    if again != body:
        raise FormatError(f"message {kind.__name__}: holds more, or other types, than its fields")
    return message


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]

"""What Pi and Agent say to each other: the bodies of the channel's calls, typed and bounded.

Pi → Agent: `prepare` (Prepare) → {"missing": CIDs}; `ask` (Question) → Evidence bytes;
`release` (Release) → {"missing": CIDs}; `start` {} → Status; `status` {} → Status;
`clean` {} → Transcript bytes; `stop` {} → Transcript bytes, whatever state the task is in.
Agent → Pi: `get_block` CID → bytes; `put_block` [CID, bytes] → null;
`image_block` [image ID, index] → bytes, empty behind the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.formats import cbor, p256
from agent.formats.cbor import FormatError
from agent.formats.cid import digest_of
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text
from agent.formats.taskspec import MAX_RECEIVERS, MAX_TASKSPEC

BEFORE, DURING, AFTER = 1, 2, 3
IMAGE_BLOCK = 1 << 20  # bytes of an image tar in one `image_block` answer
MAX_ANSWERS = 1024
MAX_TRANSCRIPT = 1 << 20
_WORD = (1 << 256) - 1


class State(StrEnum):
    """How far the Agent is with the one task of its boot."""

    FRESH = "FRESH"
    PREPARED = "PREPARED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CLEANED = "CLEANED"


class Ending(StrEnum):
    """How the run ended. Only RAN has an exit code, and that may be any."""

    RAN = "RAN"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    INPUT_MISSING = "INPUT_MISSING"
    INPUT_BAD = "INPUT_BAD"
    FUNCTION_BAD = "FUNCTION_BAD"
    DEVICE_MISSING = "DEVICE_MISSING"
    NOT_STARTED = "NOT_STARTED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class Context:
    """Which attested step of which task this is; the `chain` claim."""

    chain_id: int
    market: bytes
    task: int
    commitment: bytes
    node: bytes
    phase: int
    attempt: int

    def to_body(self) -> dict[str, object]:
        """The claim's value."""
        return {name: getattr(self, name) for name in _CONTEXT}

    @classmethod
    def from_body(cls, obj: object) -> Context:
        """Parse. Raises FormatError."""
        body = as_map(obj, _CONTEXT, "context")
        return cls(
            chain_id=as_int(body["chain_id"], 0, _WORD, "chain id"),
            market=as_bytes(body["market"], 20, "market"),
            task=as_int(body["task"], 0, _WORD, "task"),
            commitment=as_bytes(body["commitment"], 32, "commitment"),
            node=as_bytes(body["node"], 20, "node"),
            phase=as_int(body["phase"], BEFORE, AFTER, "phase"),
            attempt=as_int(body["attempt"], 0, 255, "attempt"),
        )

    def same_task(self, other: Context) -> bool:
        """Whether both speak of one task on one Node, at whatever phase and attempt."""
        mine, theirs = self.to_body(), other.to_body()
        return all(mine[k] == theirs[k] for k in _CONTEXT if k not in ("phase", "attempt"))


_CONTEXT = ("chain_id", "market", "task", "commitment", "node", "phase", "attempt")


@dataclass(frozen=True, slots=True)
class Prepare:
    """Take this task: its TaskSpec's bytes, where it stands, and DURING's least answers."""

    spec: bytes
    context: Context
    min_answers: int

    def to_body(self) -> dict[str, object]:
        """The call's body."""
        return {
            "spec": self.spec,
            "context": self.context.to_body(),
            "min_answers": self.min_answers,
        }

    @classmethod
    def from_body(cls, obj: object) -> Prepare:
        """Parse. Raises FormatError."""
        body = as_map(obj, ("spec", "context", "min_answers"), "prepare")
        return cls(
            as_bytes(body["spec"], 1, "spec", MAX_TASKSPEC),
            Context.from_body(body["context"]),
            as_int(body["min_answers"], 0, MAX_ANSWERS, "min_answers"),
        )


@dataclass(frozen=True, slots=True)
class Question:
    """Answer this nonce. AFTER also carries what the Node kept of the earlier session."""

    nonce: bytes
    context: Context
    during: tuple[tuple[bytes, bytes, bytes], ...] = ()
    transcript: bytes = b""

    def to_body(self) -> dict[str, object]:
        """The call's body."""
        return {
            "nonce": self.nonce,
            "context": self.context.to_body(),
            "during": [list(answer) for answer in self.during],
            "transcript": self.transcript,
        }

    @classmethod
    def from_body(cls, obj: object) -> Question:
        """Parse. Raises FormatError."""
        body = as_map(obj, ("nonce", "context", "during", "transcript"), "question")
        return cls(
            as_bytes(body["nonce"], 32, "nonce"),
            Context.from_body(body["context"]),
            tuple(_answer(each) for each in as_list(body["during"], 0, MAX_ANSWERS, "during")),
            as_bytes(body["transcript"], 0, "transcript", MAX_TRANSCRIPT),
        )


@dataclass(frozen=True, slots=True)
class Release:
    """A content key, HPKE-sealed to the session key with `protocol.release_info`."""

    cid: str
    sealed: bytes

    def to_body(self) -> dict[str, object]:
        """The call's body."""
        return {"cid": self.cid, "sealed": self.sealed}

    @classmethod
    def from_body(cls, obj: object) -> Release:
        """Parse. Raises FormatError."""
        body = as_map(obj, ("cid", "sealed"), "release")
        cid = as_text(body["cid"], 1, 128, "cid")
        digest_of(cid)
        return cls(cid, as_bytes(body["sealed"], 80, "sealed key"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the run; the `outcome` claim.

    `results` has every named receiver once something ran; `empty` those for whom nothing was
    written; `errors` codes only, never text that the function chose: Evidence goes to members.
    """

    status: Ending
    exit_code: int | None
    results: Mapping[str, str]
    empty: tuple[str, ...]
    errors: tuple[str, ...]
    seconds: int

    def to_body(self) -> dict[str, object]:
        """The claim's value."""
        return {
            "status": self.status.value,
            "exit_code": self.exit_code,
            "results": dict(self.results),
            "empty": list(self.empty),
            "errors": list(self.errors),
            "seconds": self.seconds,
        }

    @classmethod
    def from_body(cls, obj: object) -> Outcome:
        """Parse. Raises FormatError."""
        body = as_map(
            obj, ("status", "exit_code", "results", "empty", "errors", "seconds"), "outcome"
        )
        try:
            status = Ending(as_text(body["status"], 1, 32, "outcome status"))
        except ValueError as error:
            raise FormatError("outcome: unknown status; the Agent is of another version") from error
        code, results = body["exit_code"], body["results"]
        if not isinstance(results, dict) or len(results) > MAX_RECEIVERS:
            raise FormatError("outcome: results must be a map of receivers")
        return cls(
            status,
            None if code is None else as_int(code, 0, 255, "exit code"),
            {as_text(k, 1, 64, "receiver"): as_text(v, 1, 128, "cid") for k, v in results.items()},
            _names(body["empty"], "empty receivers"),
            _names(body["errors"], "outcome errors"),
            as_int(body["seconds"], 0, 1 << 32, "seconds"),
        )


@dataclass(frozen=True, slots=True)
class Status:
    """Where the Agent stands. `missing` are the Capsules without a key yet."""

    state: State
    missing: tuple[str, ...]
    answers: int
    outcome: Outcome | None

    def to_body(self) -> dict[str, object]:
        """The answer's body."""
        return {
            "state": self.state.value,
            "missing": list(self.missing),
            "answers": self.answers,
            "outcome": None if self.outcome is None else self.outcome.to_body(),
        }

    @classmethod
    def from_body(cls, obj: object) -> Status:
        """Parse. Raises FormatError."""
        body = as_map(obj, ("state", "missing", "answers", "outcome"), "status")
        try:
            state = State(as_text(body["state"], 1, 32, "state"))
        except ValueError as error:
            raise FormatError("status: unknown state; the Agent is of another version") from error
        outcome = body["outcome"]
        return cls(
            state,
            _names(body["missing"], "missing capsules", 128),
            as_int(body["answers"], 0, MAX_ANSWERS, "answers"),
            None if outcome is None else Outcome.from_body(outcome),
        )


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the Agent removed and then looked for again, signed by the session's own key.

    `checked` maps each check to its result; `answers` are the (nonce, evidence root) of DURING.
    """

    hpke: bytes
    signing: bytes
    context: Context
    outcome: Outcome | None
    answers: tuple[tuple[bytes, bytes], ...]
    removed: Mapping[str, int]
    checked: Mapping[str, bool]

    @property
    def clean(self) -> bool:
        """Whether every check found nothing left."""
        return bool(self.checked) and all(self.checked.values())

    def sign(self, key: p256.SigningKey) -> bytes:
        """The transcript's bytes with the session's signature."""
        body = cbor.encode(self._body())
        return cbor.encode([body, key.sign(_transcript_digest(body))])

    def _body(self) -> dict[str, object]:
        return {
            "hpke": self.hpke,
            "signing": self.signing,
            "context": self.context.to_body(),
            "outcome": None if self.outcome is None else self.outcome.to_body(),
            "answers": [list(answer) for answer in self.answers],
            "removed": dict(self.removed),
            "checked": dict(self.checked),
        }

    @classmethod
    def open(cls, data: bytes) -> Transcript:
        """Parse and verify the signature by the key it names. Raises FormatError.

        Whether that key is the one of the BEFORE record is for the caller to compare.
        """
        packed, signature = as_list(cbor.decode(data, MAX_TRANSCRIPT), 2, 2, "transcript")
        inner = as_bytes(packed, 1, "transcript body", MAX_TRANSCRIPT)
        body = as_map(cbor.decode(inner, MAX_TRANSCRIPT), _TRANSCRIPT, "transcript")
        signing = as_bytes(body["signing"], 64, "signing key")
        if not p256.verify(
            signing, _transcript_digest(inner), as_bytes(signature, 64, "transcript signature")
        ):
            raise FormatError("transcript: not signed by the session it names; refuse it")
        outcome, removed, checked = body["outcome"], body["removed"], body["checked"]
        if not isinstance(removed, dict) or not isinstance(checked, dict):
            raise FormatError("transcript: removed and checked must be maps")
        if not all(isinstance(value, bool) for value in checked.values()):
            raise FormatError("transcript: a check is yes or no")
        answers = as_list(body["answers"], 0, MAX_ANSWERS, "answers")
        return cls(
            as_bytes(body["hpke"], 32, "hpke key"),
            signing,
            Context.from_body(body["context"]),
            None if outcome is None else Outcome.from_body(outcome),
            tuple(_pair(each) for each in answers),
            {as_text(k, 1, 64, "removed"): as_int(v, 0, _WORD, "n") for k, v in removed.items()},
            {as_text(k, 1, 64, "check"): v for k, v in checked.items()},
        )


_TRANSCRIPT = ("hpke", "signing", "context", "outcome", "answers", "removed", "checked")


def _transcript_digest(body: bytes) -> bytes:
    return sha256(b"sealrun/transcript/v1" + body)


def _names(obj: object, what: str, longest: int = 64) -> tuple[str, ...]:
    return tuple(as_text(each, 1, longest, what) for each in as_list(obj, 0, 64, what))


def _pair(obj: object) -> tuple[bytes, bytes]:
    nonce, root = as_list(obj, 2, 2, "answer")
    return as_bytes(nonce, 32, "nonce"), as_bytes(root, 32, "evidence root")


def _answer(obj: object) -> tuple[bytes, bytes, bytes]:
    member, nonce, root = as_list(obj, 3, 3, "answer")
    return (
        as_bytes(member, 20, "member"),
        as_bytes(nonce, 32, "nonce"),
        as_bytes(root, 32, "evidence root"),
    )

"""How a run ended and what was cleaned: what the Agent says of the task's life on the Machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.formats import cbor, p256
from agent.formats.cbor import FormatError
from agent.formats.context import Context
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text
from agent.formats.taskspec import MAX_RECEIVERS

LEAST_ANSWERS = 3  # before DURING may end; a Pi may ask for more, never for fewer
MAX_ANSWERS = 1024
MAX_QUESTIONS = 256  # before the run; a key may be sealed under the root of any answer
MAX_TRANSCRIPT = 1 << 20  # bytes
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

    @property
    def summary(self) -> str:
        """One line for people; nothing in it was chosen by anybody's data but the exit code."""
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return ", ".join([f"{self.status.value}{code}", *self.errors])

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

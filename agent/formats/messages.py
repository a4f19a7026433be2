"""What Pi and Agent say to each other: the bodies of the channel's calls, typed and bounded.

Pi → Agent: `prepare` (Prepare) → {"missing": CIDs}; `ask` (Question) → Evidence bytes;
`monitor` (Question) → Evidence bytes that count as no answer, for the Pi's own eyes;
`release` (Release) → {"missing": CIDs}; `start` {} → Status; `status` {} → Status;
`clean` {} → Transcript bytes; `stop` {} → Transcript bytes, whatever state the task is in;
`endorsement` {} → Endorsement; `activate` (Challenge) → 32 bytes, both at any moment of a boot.
Agent → Pi: `get_block` CID → bytes; `put_block` [CID, bytes] → null;
`image_block` [image ID, index] → bytes, empty behind the last; `refused` count → null: so many
connections the function was refused by now.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.formats.cable import MAX_CABLE
from agent.formats.cid import digest_of
from agent.formats.context import AFTER, BEFORE, DURING, Context
from agent.formats.erasure import MAX_PROOF
from agent.formats.outcome import (
    LEAST_ANSWERS,
    MAX_ANSWERS,
    MAX_TRANSCRIPT,
    Ending,
    Outcome,
    State,
    Status,
    Transcript,
)
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text
from agent.formats.taskspec import MAX_TASKSPEC

ASK, MONITOR, REFUSED = "ask", "monitor", "refused"
IMAGE_BLOCK = 1 << 20  # bytes of an image tar in one `image_block` answer

__all__ = [
    "AFTER",
    "ASK",
    "BEFORE",
    "DURING",
    "IMAGE_BLOCK",
    "LEAST_ANSWERS",
    "MAX_ANSWERS",
    "MAX_TRANSCRIPT",
    "MONITOR",
    "REFUSED",
    "Context",
    "Ending",
    "Outcome",
    "Prepare",
    "Question",
    "Release",
    "State",
    "Status",
    "Transcript",
]


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
            as_int(body["min_answers"], LEAST_ANSWERS, MAX_ANSWERS, "min_answers"),
        )


@dataclass(frozen=True, slots=True)
class Question:
    """Answer this nonce. AFTER also carries what the Node kept of the earlier session.

    cable: what the Pi says of the cable (`agent.formats.cable.CableReport`, encoded), empty where
    there is none. proof: an encoded `erasure.ErasureProof` of AFTER, empty where there is none.
    The Agent copies both unread into claims.
    """

    nonce: bytes
    context: Context
    during: tuple[tuple[bytes, bytes, bytes], ...] = ()
    transcript: bytes = b""
    # By name only: one in the other's place would be an empty claim, and cost a Deposit.
    cable: bytes = field(default=b"", kw_only=True)
    proof: bytes = field(default=b"", kw_only=True)

    def to_body(self) -> dict[str, object]:
        """The call's body."""
        return {
            "nonce": self.nonce,
            "context": self.context.to_body(),
            "during": [list(answer) for answer in self.during],
            "transcript": self.transcript,
            "cable": self.cable,
            "proof": self.proof,
        }

    @classmethod
    def from_body(cls, obj: object) -> Question:
        """Parse. Raises FormatError."""
        names = ("nonce", "context", "during", "transcript", "cable", "proof")
        body = as_map(obj, names, "question")
        return cls(
            as_bytes(body["nonce"], 32, "nonce"),
            Context.from_body(body["context"]),
            tuple(_answer(each) for each in as_list(body["during"], 0, MAX_ANSWERS, "during")),
            as_bytes(body["transcript"], 0, "transcript", MAX_TRANSCRIPT),
            cable=as_bytes(body["cable"], 0, "cable", MAX_CABLE),
            proof=as_bytes(body["proof"], 0, "erasure proof", MAX_PROOF),
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


def _answer(obj: object) -> tuple[bytes, bytes, bytes]:
    member, nonce, root = as_list(obj, 3, 3, "answer")
    return (
        as_bytes(member, 20, "member"),
        as_bytes(nonce, 32, "nonce"),
        as_bytes(root, 32, "evidence root"),
    )

"""Which attested step of which task something belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats.shape import as_bytes, as_int, as_map

BEFORE, DURING, AFTER = 1, 2, 3
_WORD = (1 << 256) - 1


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

"""Changed copies of valid inputs: bytes, and the trees that CBOR and JSON bytes stand for.

A byte flipped at random rarely survives the outer format. So half of the changes are made inside:
decode, change one node, encode again, also of byte strings that hold CBOR themselves.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import cbor2

MAX_SIZE = 1 << 16  # a mutant never grows beyond, unless its seed was larger
EDGES = (0, 1, 23, 24, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**256)
_WORDS = (b"", b"\0", b"\xff", b"\x80", b"\0" * 32, b"\xff" * 32, b"/", b"..", b"\r\n", b"\n", b" ")
_DEEP = 40


class Mutator:
    """A fixed sequence of mutants for a seed of the random generator."""

    def __init__(self, seed: int | str, codec: str) -> None:
        self._random = random.Random(seed)
        self._codec = codec

    def mutant(self, samples: Sequence[bytes]) -> bytes:
        """One to three changes to one of `samples`."""
        pick = self._random
        data = pick.choice(samples)
        most = max(MAX_SIZE, len(data))
        for _ in range(pick.choice((1, 1, 1, 2, 3))):
            if self._codec != "bytes" and pick.random() < 0.6:
                data = self._tree(data)
            else:
                data = self._bytes(data, pick.choice(samples))
        return data[:most]

    # ------------------------------------------------------------------------------ bytes

    def _bytes(self, data: bytes, other: bytes) -> bytes:
        pick = self._random
        changes: tuple[Callable[[bytes, bytes], bytes], ...] = (
            *(self._flip, self._set, self._insert, self._delete, self._cut, self._repeat),
            *(self._splice, self._integer),
        )
        return pick.choice(changes)(data, other) if data else self._insert(data, other)

    def _at(self, data: bytes) -> int:
        return self._random.randrange(len(data))

    def _flip(self, data: bytes, _: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]

    def _set(self, data: bytes, _: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + bytes([self._random.randrange(256)]) + data[at + 1 :]

    def _insert(self, data: bytes, _: bytes) -> bytes:
        at = self._random.randrange(len(data) + 1)
        some = self._random.choice((*_WORDS, self._random.randbytes(self._random.randrange(1, 9))))
        return data[:at] + some + data[at:]

    def _delete(self, data: bytes, _: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + data[at + self._random.choice((1, 1, 2, 4, 32)) :]

    def _cut(self, data: bytes, _: bytes) -> bytes:
        return data[: self._at(data)]

    def _repeat(self, data: bytes, _: bytes) -> bytes:
        at = self._at(data)
        part = data[at : at + self._random.choice((1, 4, 32, 512))]
        return data[:at] + part * self._random.choice((2, 3, 50)) + data[at:]

    def _splice(self, data: bytes, other: bytes) -> bytes:
        if not other:
            return data
        begin = self._at(other)
        part = other[begin : begin + self._random.randrange(1, 65)]
        at = self._at(data)
        return data[:at] + part + data[at + self._random.choice((0, len(part))) :]

    def _integer(self, data: bytes, _: bytes) -> bytes:
        """A field of 1, 2, 4 or 8 bytes set to a number that lies: lengths and counts are such."""
        size = self._random.choice((1, 2, 4, 8))
        order = "big" if self._random.random() < 0.5 else "little"
        value = self._random.choice(EDGES) % (1 << 8 * size)
        at = self._at(data)
        return data[:at] + value.to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------- trees

    def _tree(self, data: bytes) -> bytes:
        try:
            return self._dump(self._change(self._load(data)))
        except (ValueError, TypeError, OverflowError, RecursionError, cbor2.CBORError, EOFError):
            return self._bytes(data, data)

    def _load(self, data: bytes) -> Any:
        return cbor2.loads(data) if self._codec == "cbor" else json.loads(data)

    def _dump(self, tree: Any) -> bytes:
        if self._codec == "json":
            return json.dumps(tree, ensure_ascii=self._random.random() < 0.5).encode()
        return cbor2.dumps(tree, canonical=self._random.random() < 0.9)

    def _change(self, tree: Any) -> Any:
        """Change one node, reached by a random walk from the root."""
        pick = self._random
        if isinstance(tree, list) and tree and pick.random() < 0.8:
            at = pick.randrange(len(tree))
            return [*tree[:at], self._change(tree[at]), *tree[at + 1 :]]
        if isinstance(tree, dict) and tree and pick.random() < 0.8:
            key = pick.choice(list(tree))
            return {**tree, key: self._change(tree[key])}
        if isinstance(tree, bytes) and self._codec == "cbor" and len(tree) > 8:
            inner = self._inner(tree)
            if inner is not None:
                return inner
        return self._replace(tree)

    def _inner(self, packed: bytes) -> bytes | None:
        """A byte string that is CBOR itself, behind a salt of 16 bytes or not."""
        for skip in (0, 16):
            try:
                tree = cbor2.loads(packed[skip:])
            except (ValueError, TypeError, cbor2.CBORError, EOFError, RecursionError):
                continue
            if isinstance(tree, list | dict) and self._random.random() < 0.8:
                return packed[:skip] + cbor2.dumps(self._change(tree), canonical=True)
        return None

    def _replace(self, node: Any) -> Any:
        pick = self._random
        if isinstance(node, list) and pick.random() < 0.7:
            return self._relist(node)
        if isinstance(node, dict) and pick.random() < 0.7:
            return self._remap(node)
        if isinstance(node, bytes) and pick.random() < 0.7:
            return self._bytes(node, node) if node else b"\0"
        if isinstance(node, str) and pick.random() < 0.7:
            return self._text(node)
        if isinstance(node, int) and pick.random() < 0.7:
            return pick.choice((node + 1, node - 1, -node, *EDGES, *(-edge for edge in EDGES)))
        return self._other()

    def _relist(self, node: list[Any]) -> list[Any]:
        pick = self._random
        some = pick.choice(node) if node else 0
        return pick.choice(
            ([], [*node, some], node[:-1], node[::-1], [*node, None], node * 2, [some] * 70)
        )

    def _remap(self, node: dict[Any, Any]) -> dict[Any, Any]:
        pick = self._random
        if not node or pick.random() < 0.3:
            return {**node, pick.choice(("", "x", "version", "a" * 300)): self._other()}
        gone = pick.choice(list(node))
        rest = {key: value for key, value in node.items() if key != gone}
        return rest if pick.random() < 0.6 else {**rest, str(gone) + "x": node[gone]}

    def _text(self, text: str) -> str:
        pick = self._random
        at = pick.randrange(len(text) + 1)
        odd = pick.choice(("\0", "\n", "é", "‮", "/", "..", " ", "0x", "\\", '"', "a" * 500, "0"))
        return pick.choice((text[:at] + odd + text[at:], text[:at], text + text, text.upper(), ""))

    def _other(self) -> Any:
        deep: Any = 0
        for _ in range(_DEEP):
            deep = [deep]
        choices: tuple[Any, ...] = (
            *(None, True, False, 0, -1, 2**64, "", "text", [], {}, [[]], {"a": 1}, deep, 1.5),
            *((b"", b"\0" * 32, b"\xff" * 64) if self._codec == "cbor" else ("0x", "0x0")),
        )
        return self._random.choice(choices)

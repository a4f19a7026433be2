"""Measuring a tree of files, and asking for ranges of it that only a nonce decides.

The Pi measures what it boots, the Agent measures itself, a verifier computes both from the same
release: one function each, so that they cannot drift apart. Only files that matter to running are
measured: byte code caches are written by the interpreter and ignored (the Agent runs with -B).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256

RANGES = 16
RANGE = 4096  # bytes: one page
_TREE = b"sealrun/tree/v1"
_ASK = b"sealrun/ranges/v1"

Range = tuple[str, int, int]


def tree_files(folder: Path) -> list[tuple[str, int]]:
    """(relative path, size in bytes) of every measured file, sorted by path."""
    return [
        (file.relative_to(folder).as_posix(), file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]


def measure_tree(folder: Path) -> bytes:
    """SHA-256 (32 bytes) over path, size and content digest of every file, sorted by path.

    Raises FormatError for a tree without files, or with links in it: a link's target is not part
    of what was measured.
    """
    digest = hashlib.sha256(_TREE)
    files = tree_files(folder)
    if not files:
        raise FormatError(f"measure: no files in {folder.name}; install the Agent again")
    for name, size in files:
        path = folder / name
        if path.is_symlink():
            raise FormatError(f"measure: {name} is a link; install the Agent again")
        with path.open("rb") as source:
            content = hashlib.file_digest(source, "sha256").digest()
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded + size.to_bytes(8, "big") + content)
    return digest.digest()


def choose_ranges(nonce: bytes, files: Sequence[tuple[str, int]]) -> list[Range]:
    """The (path, offset, length) that this nonce asks for; nobody knows them before the nonce."""
    chosen: list[Range] = []
    full = [(name, size) for name, size in files if size]
    for index in range(RANGES if full else 0):
        seed = sha256(_ASK + nonce + index.to_bytes(4, "big"))
        name, size = full[int.from_bytes(seed[:8], "big") % len(full)]
        offset = int.from_bytes(seed[8:16], "big") % size
        chosen.append((name, offset, min(RANGE, size - offset)))
    return chosen


def answer_ranges(nonce: bytes, folder: Path) -> list[list[object]]:
    """[path, offset, length, sha256(nonce ‖ bytes)] of each chosen range, read from `folder`.

    The verifier calls this on its own copy and compares: equal files give equal answers. The nonce
    in the hash means that an answer cannot be kept from an earlier question.
    """
    answers: list[list[object]] = []
    for name, offset, length in choose_ranges(nonce, tree_files(folder)):
        with (folder / name).open("rb") as source:
            source.seek(offset)
            answers.append([name, offset, length, sha256(nonce + source.read(length))])
    return answers

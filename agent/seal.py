"""Seals what the function wrote: one RESULT Capsule per receiver that the task names.

Each gets a content key of its own, sealed to the receiver's key and carried in the header, so that
the CID is all a receiver needs. Who is not named gets nothing, and is not even mentioned: a
folder's name would be a message from the function to everybody who reads the Evidence.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.formats import hpke
from agent.formats.archive import ArchiveError, packed
from agent.formats.capsule import Kind, seal_stream
from agent.formats.messages import Context
from agent.formats.protocol import result_info
from agent.formats.taskspec import Receiver, TaskSpec
from agent.scratch import Scratch
from agent.session import Session

UNNAMED_RECEIVER = "UNNAMED_RECEIVER"
UNREADABLE_OUTPUT = "UNREADABLE_OUTPUT"
_MAX_FILES = 10_000

Put = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Sealed:
    """CID by receiver, receivers without content, and codes of what was wrong."""

    results: dict[str, str]
    empty: tuple[str, ...]
    errors: tuple[str, ...]


def seal_results(
    scratch: Scratch, spec: TaskSpec, context: Context, session: Session, put: Put
) -> Sealed:
    """Seal `out/<receiver>` for every receiver of `spec`. Raises what `put` raises.

    All or nothing per receiver: a folder that does not pack as a whole (links, pipes, odd names)
    counts as empty, because part of a result would look like a whole one.
    """
    results: dict[str, str] = {}
    empty, errors = [], set()
    named = {receiver.name for receiver in spec.receivers}
    if any(entry.name not in named for entry in os.scandir(scratch.out)):
        errors.add(UNNAMED_RECEIVER)
    for receiver in spec.receivers:
        folder = scratch.out / receiver.name
        if not _readable(folder):
            errors.add(UNREADABLE_OUTPUT)
            folder = scratch.empty
        if not any(folder.iterdir()):
            empty.append(receiver.name)
        results[receiver.name] = _seal_one(folder, receiver, context, session, put)
    return Sealed(results, tuple(empty), tuple(sorted(errors)))


def _seal_one(
    folder: Path,
    receiver: Receiver,
    context: Context,
    session: Session,
    put: Put,
) -> str:
    key = secrets.token_bytes(32)
    info = result_info(context.chain_id, context.market, context.task, receiver.name)
    with packed(folder, max_files=_MAX_FILES) as source:
        capsule = seal_stream(
            source,
            put,
            kind=Kind.RESULT,
            owner=session.signing,
            sign=session.signer.sign,
            content_key=key,
            sealed_key=hpke.seal(receiver.hpke_public, info, key),
        )
    return capsule.cid


def _readable(folder: Path) -> bool:
    """Whether the folder is one and packs. The container is dead: nothing changes any more."""
    try:
        if not folder.is_dir() or folder.is_symlink():
            return False
        with packed(folder, max_files=_MAX_FILES) as source:
            while source.read(1 << 20):
                pass
    except (ArchiveError, OSError):
        return False
    return True

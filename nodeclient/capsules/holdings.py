"""Whether a Node can stand by the Capsules that a TaskSpec names as its own.

Looked at before a consent and before a post: what is paid is the attested slot, so a Task whose
input turns out to be damaged, or of another kind, would cost its requester the fees. Contents are
not read (they may be terabytes): a damaged chunk ends the run as INPUT_MISSING.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.formats.capsule import Kind, inspect, promises
from agent.formats.cbor import FormatError
from agent.formats.taskspec import TaskSpec
from nodeclient.capsules.keys import KeyVault, load_key
from nodeclient.core.reasons import Code, reason
from nodeclient.errors import SealrunError
from nodeclient.ports import BlockStore, Root


def faults(
    root: Root, vault: KeyVault, blocks: BlockStore, spec: TaskSpec, cids: Sequence[str]
) -> tuple[str, ...]:
    """Why these Capsules of this Node cannot serve the TaskSpec; empty: they can."""
    return tuple(
        str(reason(Code.CAPSULE_UNUSABLE, f"{cid[:16]}…: {text}"))
        for cid in cids
        for text in _faults_of(root, vault, blocks, spec, cid)
    )


def _faults_of(
    root: Root, vault: KeyVault, blocks: BlockStore, spec: TaskSpec, cid: str
) -> Iterator[str]:
    try:
        header = inspect(cid, blocks.get)
        content_key = load_key(root, vault, cid)
    except SealrunError as error:
        yield error.message
        return
    except FormatError as error:
        yield str(error).partition("; ")[0]
        return
    if header.owner != root.public_key():
        yield "sealed by another node"
    lost = sum(not blocks.has(chunk) for chunk in header.chunks)
    if lost:
        yield f"{lost} of {len(header.chunks)} chunks are not here"
    as_input = any(entry.cid == cid for entry in spec.inputs)
    if as_input and header.kind is not Kind.DATA:
        yield f"is {header.kind.name}, not an input"
    if cid != spec.function.cid:
        return
    if header.kind is not Kind.FUNCTION:
        yield f"is {header.kind.name}, not a function"
    elif not promises(header, content_key, spec.function.digest):
        yield "its digest is not the one that the task names"

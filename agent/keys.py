"""The content keys of one task: what is still missing, and how a released one is opened."""

from __future__ import annotations

from agent.formats.cbor import FormatError
from agent.formats.messages import Context, Release
from agent.formats.outcome import MAX_QUESTIONS
from agent.formats.protocol import release_info
from agent.formats.taskspec import TaskSpec
from agent.session import Session


class KeyRing:
    """Keys by Capsule. Opened only under an Evidence root that this very session gave BEFORE."""

    def __init__(self, spec: TaskSpec, context: Context, session: Session) -> None:
        self._context, self._session = context, session
        self._wanted = tuple(dict.fromkeys([spec.function.cid, *(i.cid for i in spec.inputs)]))
        self._keys: dict[str, bytes] = {}
        self._roots: list[bytes] = []

    @property
    def missing(self) -> tuple[str, ...]:
        """CIDs without a key, in the TaskSpec's order."""
        return tuple(cid for cid in self._wanted if cid not in self._keys)

    @property
    def empty(self) -> bool:
        """Whether no key is held."""
        return not self._keys

    def add_root(self, root: bytes) -> None:
        """An Evidence root that was answered BEFORE. Raises FormatError above MAX_QUESTIONS."""
        if len(self._roots) >= MAX_QUESTIONS:
            raise FormatError("too many questions before the run; boot the Machine again")
        self._roots.append(root)

    def take(self, release: Release) -> None:
        """Open and keep a key. Raises FormatError for a Capsule the task does not name, and
        OpenError for a key sealed to another session, task, Capsule or Evidence."""
        if release.cid not in self._wanted:
            raise FormatError("this task uses no such Capsule; release only what it names")
        if release.cid in self._keys:
            return
        where = self._context
        infos = [
            release_info(where.chain_id, where.market, where.task, release.cid, root)
            for root in self._roots
        ]
        key = self._session.open_any(infos, release.sealed)
        if len(key) != 32:
            raise FormatError("a content key has 32 bytes; seal the Capsule's own key")
        self._keys[release.cid] = key

    def get(self, cid: str) -> bytes:
        """The key of a Capsule that is no longer missing."""
        return self._keys[cid]

    def drop(self) -> None:
        """Forget every key."""
        self._keys.clear()

"""Which Nodes are barred by vote, from the chain's whole history; and the Cases that are told so.

Nothing is remembered between two lives of the daemon: the registry's history is read at every start
anyway, and the first block after it tells every Case that lacks it.
"""

from __future__ import annotations

from collections.abc import Callable

from nodeclient.core import events as ev
from nodeclient.core.case import Case
from nodeclient.core.types import Address, Commitment
from nodeclient.store.database import Store

Fact = ev.NodeAdmitted | ev.HardwareBarred | ev.MakerBarred


class BarBook:
    """Held in memory: an entry for each admission and each bar there ever was."""

    def __init__(self) -> None:
        self._facts: dict[tuple[int, int], Fact] = {}
        self._makers: dict[Address, bytes] = {}
        self._barred: set[Address] = set()
        self._barred_makers: set[bytes] = set()

    def on_event(self, event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> bool:
        """One item of the chain's watcher, twice is as once; whether who is barred may differ."""
        match event:
            case ev.NodeAdmitted() | ev.HardwareBarred() | ev.MakerBarred():
                self._facts[event.block.number, event.log_index] = event
                self._take(event)
                return True
            case ev.ChainReorganised():
                kept = {at: fact for at, fact in self._facts.items() if at[0] <= event.to_block}
                changed = kept != self._facts
                self._facts, self._makers = kept, {}
                self._barred, self._barred_makers = set(), set()
                for at in sorted(kept):
                    self._take(kept[at])
                return changed
        return False

    def _take(self, fact: Fact) -> None:
        match fact:
            case ev.NodeAdmitted():
                self._makers[fact.node] = fact.maker
            case ev.HardwareBarred():
                self._barred.add(fact.holder)
            case ev.MakerBarred():
                self._barred_makers.add(fact.maker)

    def is_barred(self, node: Address) -> bool:
        """Whether a vote barred the Node's hardware, or all of its maker's."""
        return node in self._barred or self._makers.get(node) in self._barred_makers

    def nodes(self) -> frozenset[Address]:
        """All that are barred; one of them may be no Node, if nobody held what was barred."""
        made = {node for node, maker in self._makers.items() if maker in self._barred_makers}
        return frozenset(self._barred | made)


class BarDuty:
    """Tells Cases, with the block that shows it. ``tell`` puts a fact to the rules; ``barred`` is
    told of all barred Nodes whenever there are others than before."""

    def __init__(
        self,
        store: Store,
        tell: Callable[[ev.OutcomeEvent], None],
        barred: Callable[[frozenset[Address], int], None],
    ) -> None:
        self.book = BarBook()
        self._store, self._tell, self._told_barred = store, tell, barred
        self._changed = True
        self._due: set[Commitment] = set()

    def on_event(self, event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> None:
        """One item of the chain's watcher, after the Cases were told of it."""
        if self.book.on_event(event):
            self._changed = True
        match event:
            case ev.BlockSeen():
                self._tell_all(event.block.number)
            case ev.ChainReorganised():  # before the rules act in a block on what is undone
                self._tell_all(event.to_block)

    def _tell_all(self, number: int) -> None:
        if self._changed:
            self._due.update(case.commitment for case in self._store.open_cases())
            self._told_barred(self.book.nodes(), number)
            self._changed = False
        due, self._due = self._due, set()
        for commitment in due:
            case = self._store.case(commitment)
            if case is not None and self._of(case) != case.barred:
                nodes = self._of(case)
                self._tell(ev.NodesBarred(commitment=commitment, nodes=nodes, at=number))

    def committed(self, _before: Case | None, after: Case, _event: ev.Event) -> None:
        """A Case with other Nodes than before may have barred ones among them; the runner's
        ``on_commit``."""
        if not after.over and self._of(after) != after.barred:
            self._due.add(after.commitment)

    def _of(self, case: Case) -> tuple[Address, ...]:
        named = set(case.members) | ({case.task.executor} if case.task is not None else set())
        return tuple(sorted(node for node in named if self.book.is_barred(node)))

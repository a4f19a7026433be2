"""The loop between the world and the rules: event -> ``step`` -> one transaction -> workers.

Events are handled one at a time, in the order in which they come; handling never awaits. Every new
outbox row gets a worker (an asyncio task) that performs the action and brings its outcome back as
an event. At start the pending rows of the last run get their workers again: that is the whole
recovery.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.formats.faults import place_of
from nodeclient.core import events as ev
from nodeclient.core.actions import Action, Reply
from nodeclient.core.case import Case, Me, fold, unposted
from nodeclient.core.roles.table import UnexpectedEvent
from nodeclient.core.task import step
from nodeclient.core.types import Commitment
from nodeclient.errors import SealrunError
from nodeclient.ports import ChainWatcher
from nodeclient.store.database import END_OF_BLOCK, OutboxRow, Store

log = logging.getLogger(__name__)

Emit = Callable[[ev.OutcomeEvent], None]
Effect = Callable[[Any, Emit], Awaitable[ev.OutcomeEvent | None]]
FIRST_RETRY, LAST_RETRY = 0.2, 15.0  # seconds between tries of an action that failed


class RefusedByPeer(SealrunError):
    """This Node's answer to a peer is no; the text goes to the peer."""


class Runner:
    """Owns the order of events. ``on_commit`` is told each transition after it is durable."""

    def __init__(
        self,
        store: Store,
        me: Me,
        effects: Mapping[type[Action], Effect],
        on_node_event: Callable[[ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised], None],
        on_commit: Callable[[Case | None, Case, ev.Event], None] | None = None,
    ) -> None:
        self.me = me
        self.head = 0
        self._store = store
        self._effects = effects
        self._on_node_event = on_node_event
        self._on_commit = on_commit
        self._workers: dict[bytes, tuple[Commitment, asyncio.Task[None]]] = {}
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._stopped = False
        # Numbers of an earlier life must not come again: an answer that was still owed then would
        # go to whoever asks now, and an order that names the number would count as done already.
        self._requests = itertools.count(secrets.randbits(62))

    # ------------------------------------------------------------------------------- sources

    async def follow(self, watcher: ChainWatcher, from_block: int) -> None:
        """Apply the chain from the durable cursor on. Ends only by cancellation."""
        cursor = self._store.cursor() or (from_block - 1, END_OF_BLOCK)
        first = cursor[0] - (0 if cursor[1] < END_OF_BLOCK else -1)
        async for event in watcher.events(first - 1):
            self.on_chain(event)

    def on_chain(self, event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> None:
        """One item of the watcher."""
        match event:
            case ev.BlockSeen():
                self.head = event.block.number
                for case in self._store.open_cases():
                    self._advance(case, event)
                self._store.reach(event.block)
                self._on_node_event(event)
            case ev.ChainReorganised():
                log.warning("the chain reorganised down to block %d", event.to_block)
                self._store.rewind(event.to_block)
                self._on_node_event(event)
            case ev.TaskEvent():
                place = (event.block.number, event.log_index)
                if place > (self._store.cursor() or (-1, -1)):
                    self._displace(event)
                    self._advance(self._case_for(event), event, cursor=place)
            case _:
                self._on_node_event(event)

    def tell(self, event: ev.OutcomeEvent) -> None:
        """Apply a fact that no order of this Node brought about."""
        self._advance(self._store.case(event.commitment), event)

    async def ask(self, build: Callable[[int], ev.PeerEvent], seconds: float) -> object:
        """A peer's (or the operator's) request: apply it, wait for the rules' reply.

        Raises:
            RefusedByPeer: the rules say no.
            TimeoutError: no reply within ``seconds`` (the peer asks again).
        """
        request = next(self._requests)
        waiting: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[request] = waiting
        try:
            event = build(request)
            commitment = getattr(event, "commitment")  # noqa: B009  (every peer event has one)
            case = self._store.case(commitment)
            if case is None and not isinstance(event, ev.ConsentAsked | ev.TaskOrdered):
                raise RefusedByPeer("this node knows no such task", "wait until it is posted")
            self._advance(case or Case(commitment), event)
            return await asyncio.wait_for(waiting, seconds)
        finally:
            self._waiting.pop(request, None)

    # ------------------------------------------------------------------------------- the step

    def _displace(self, event: ev.TaskEvent) -> None:
        """After a reorganisation a task id may belong to another posting than before."""
        former = self._store.case_of(event.task)
        if former is None or not isinstance(event, ev.TaskPosted):
            return
        if former.commitment != event.commitment:
            self._store.apply(unposted(former), ())

    def _case_for(self, event: ev.TaskEvent) -> Case | None:
        if isinstance(event, ev.TaskPosted):
            return self._store.case(event.commitment) or Case(event.commitment)
        return self._store.case_of(event.task)

    def _advance(
        self,
        case: Case | None,
        event: ev.Event,
        closes: bytes | None = None,
        cursor: tuple[int, int] | None = None,
    ) -> None:
        """Step, commit, then act. An event that no table expects is noted and changes nothing."""
        if case is None:
            self._store.apply(None, (), closes, cursor)
            return
        try:
            changed, actions = step(case, event, self.me)
        except UnexpectedEvent as unexpected:
            log.error("task %s: %s", case.commitment.hex()[:12], unexpected)
            # What the chain says holds all the same, whatever this Node's roles make of it.
            known = fold(case, event) if isinstance(event, ev.TaskEvent) else None
            self._store.apply(known, (), closes, cursor)
            if isinstance(event, ev.PeerEvent):
                refusal = "this node cannot take that now"
                self._reply(
                    Reply(commitment=case.commitment, request=event.request, refusal=refusal)
                )
            return
        if changed == case and not actions and closes is None and cursor is None:
            return
        # A question alone makes no Case: strangers could fill the disk with refused ones.
        kept = None if changed == Case(case.commitment) else changed
        rows = self._store.apply(kept, actions, closes, cursor)
        if self._on_commit is not None and changed != case:
            self._on_commit(case, changed, event)
        if changed.over:
            self._drop_workers(changed.commitment)
        for action in actions:
            if isinstance(action, Reply):
                self._reply(action)
        for row in rows:
            self._start(row)

    def _reply(self, reply: Reply) -> None:
        waiting = self._waiting.get(reply.request)
        if waiting is None or waiting.done():
            return
        if reply.refusal:
            waiting.set_exception(RefusedByPeer(reply.refusal, "read the reason"))
        else:
            waiting.set_result(reply.body)

    def answer(self, request: int, body: object) -> None:
        """Answer a peer from an effect, where the answer needs a key."""
        waiting = self._waiting.get(request)
        if waiting is not None and not waiting.done():
            waiting.set_result(body)

    # ------------------------------------------------------------------------------- workers

    def resume(self) -> None:
        """Give every pending row of the last run its worker again."""
        for row in self._store.pending():
            self._start(row)

    def _start(self, row: OutboxRow) -> None:
        if self._stopped:
            return  # it stays pending for the next start
        if row.key in self._workers:
            return  # a peer's question ordered it while the last run's rows were being resumed
        worker = asyncio.get_running_loop().create_task(self._work(row))
        self._workers[row.key] = (row.action.commitment, worker)

    def _drop_workers(self, commitment: Commitment) -> None:
        """Stop what the end of a Task made pointless."""
        for key, (owner, worker) in list(self._workers.items()):
            if owner == commitment and not self._store.is_pending(key):
                worker.cancel()

    async def _work(self, row: OutboxRow) -> None:
        action, delay, told = row.action, FIRST_RETRY, ""
        effect = self._effects[type(action)]

        def emit(event: ev.OutcomeEvent) -> None:
            self._advance(self._store.case(action.commitment), event)

        try:
            while True:
                try:
                    outcome = await effect(action, emit)
                    break
                except SealrunError as error:
                    failed = f"{type(action).__name__} failed, trying again"
                    log.info("%s: %s", failed, type(error).__name__)
                    if str(error) != told:  # once: tries may go on for days
                        told = str(error)
                        self.note(action.commitment, f"{failed}: {told}")
                except Exception as error:
                    log.error("%s failed unexpectedly: %s", type(action).__name__, place_of(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, LAST_RETRY)
            if not self._store.is_pending(row.key):
                return
            if outcome is None:
                self._store.apply(None, (), closes=row.key)
            else:
                self._advance(self._store.case(action.commitment), outcome, closes=row.key)
        finally:
            self._workers.pop(row.key, None)

    async def stop(self) -> None:
        """Cancel all workers, and begin none any more; rows stay pending for the next start."""
        self._stopped = True
        workers = [worker for _, worker in self._workers.values()]
        for worker in workers:
            worker.cancel()
        for worker in workers:
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    def note(self, commitment: Commitment | None, what: str) -> None:
        """Journal line for the operator; its text may speak of the TaskSpec."""
        self._store.note(time.time(), commitment, what)

"""Tells a receiver of every change of the verdict and of every incident, by signed POST requests.

The form is Standard Webhooks (standardwebhooks.com): headers ``webhook-id``, ``webhook-timestamp``
and ``webhook-signature``, the last an HMAC-SHA256 over id, time and body, so that a receiver can
use a library and refuse forgeries and replays. An id stays the same over all tries of one message.

The Node never waits for it. Messages queue up to a bound and go out in order; one that is refused
is tried again, more and more slowly. The newest verdict is never given up, and what was last
delivered stands in a file: so a change reaches a receiver that comes back, even after a restart of
both. Of an incident only the kind is told: its text may name a host that a task talks to.

Others can cause notices (they are down, they run what nobody approved) and incidents (a task opens
connections): of each kind one message goes out at once, the next not before a pause, with the count
of that moment. What only its operator can cause, a change of faults, is always told at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from eth_utils.address import to_checksum_address

from nodeclient.core.incidents import Kind
from nodeclient.core.types import Address
from nodeclient.core.verdict import Fault
from nodeclient.health.exposition import Metric, counter, gauge, one
from nodeclient.health.service import Reading
from nodeclient.health.target import Memory, Target
from nodeclient.health.views import as_json, codes

log = logging.getLogger(__name__)
FAREWELL_SECONDS = 3.0
SECONDS = 10.0  # one request, from dialling to the status line
FIRST_PAUSE, LAST_PAUSE = 1.0, 300.0  # seconds after a request that failed
MOST_TRIES = 12  # of a message that is not the newest verdict: some 20 minutes
PACE_SECONDS = 300.0  # between two incidents of one kind, and between two changes of notices alone
MOST_WAITING = 64  # messages; the oldest makes room


@dataclass(eq=False)
class Message:
    """``words`` of a verdict; None: an incident."""

    body: bytes
    words: tuple[str, ...] | None = None
    tries: int = 0
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(16)}")


class Webhook:
    """``judged`` and ``incident`` only queue; ``run`` sends. ``clock``: seconds since 1970."""

    def __init__(
        self,
        target: Target,
        memory: Memory,
        account: Address,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._target, self._memory, self._account, self._clock = target, memory, account, clock
        self._words = memory.delivered()
        self._noticed_at = -math.inf
        self._held: dict[Kind, int] = {}  # incidents that wait for their pause to end: how many
        self._told_at: dict[Kind, float] = {}
        self._queue: deque[Message] = deque()
        self._filled = asyncio.Event()
        self._tried = asyncio.Event()
        self._failing = False
        self.sent = self.failed = self.dropped = 0

    # ------------------------------------------------------------------------------- what to say

    def judged(self, reading: Reading) -> None:
        """Queue a message if this verdict is another one than the last; called at intervals."""
        for kind, count in list(self._held.items()):
            self.incident(kind, count)
        words, now = codes(reading.remarks), self._clock()
        if words == self._words:
            return
        if faults_of(words) == faults_of(self._words):
            if 0 <= now - self._noticed_at < PACE_SECONDS:
                return
            self._noticed_at = now
        shown = as_json(reading.picture, reading.remarks)
        data = {name: shown[name] for name in ("account", "healthy", "faults", "notices")}
        self._put("health.changed", {**data, "before": list(self._words)}, words)
        self._words = words

    def incident(self, kind: Kind, count: int) -> None:
        """Queue a message about one; ``count``: of this kind since the daemon started."""
        now = self._clock()
        if 0 <= now - self._told_at.get(kind, -math.inf) < PACE_SECONDS:
            self._held[kind] = count
            return
        self._told_at[kind] = now
        self._held.pop(kind, None)
        data: dict[str, object] = {
            "account": to_checksum_address(self._account),
            "kind": kind.value,
            "count": count,
        }
        self._put("incident", data)

    def _put(
        self, kind: str, data: dict[str, object], words: tuple[str, ...] | None = None
    ) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        body = {"type": kind, "timestamp": at.replace("+00:00", "Z"), "data": data}
        if len(self._queue) >= MOST_WAITING:
            self._make_room()
        self._queue.append(Message(json.dumps(body).encode(), words))
        self._filled.set()

    # ------------------------------------------------------------------------------------ sending

    async def run(self) -> None:
        """Send what is queued, for ever."""
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=SECONDS),
            trust_env=False,
        ) as session:
            while True:
                await self._filled.wait()
                pause = await self.send_next(session)
                self._tried.set()
                if not self._queue:
                    self._filled.clear()
                await asyncio.sleep(pause)

    async def farewell(self) -> None:
        """Wait a moment for what is on its way, unless the receiver is away: the news of a root
        that was lost must not end with the daemon that it ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                while self._queue and not self._failing:
                    self._tried.clear()
                    await self._tried.wait()

    async def send_next(self, session: aiohttp.ClientSession) -> float:
        """Try the oldest message once; seconds to wait until the next try."""
        message = self._queue[0]
        fault = await self._post(session, message)
        waiting = message in self._queue  # it may have made room meanwhile
        if not fault:
            if waiting:
                self._queue.remove(message)
            self._delivered(message)
            return 0.0
        message.tries += 1
        self.failed += 1
        if not self._failing:  # once per outage: it may last for days
            log.warning("webhook: not delivered (%s), trying again", fault)
        self._failing = True
        if waiting and message.tries >= MOST_TRIES:
            self._queue.remove(message)
            if self._is_newest(message):
                self._queue.append(message)
            else:
                self.dropped += 1
        return float(min(LAST_PAUSE, FIRST_PAUSE * 2 ** min(message.tries - 1, 10)))

    def _delivered(self, message: Message) -> None:
        self.sent += 1
        if self._failing:
            log.info("webhook: the receiver takes messages again")
        self._failing = False
        if message.words is not None:
            self._memory.keep(message.words)

    async def _post(self, session: aiohttp.ClientSession, message: Message) -> str:
        """What failed; empty: delivered. The answer's body is not read, its redirects are not
        followed: they would carry the message to where nobody sent it."""
        at = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "sealrun",
            "webhook-id": message.id,
            "webhook-timestamp": at,
            "webhook-signature": signature(self._target.secret, message.id, at, message.body),
        }
        try:
            async with session.post(
                self._target.url, data=message.body, headers=headers, allow_redirects=False
            ) as answer:
                answer.close()
                return "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return type(error).__name__  # not its text, which names the URL: that may be a secret

    def _make_room(self) -> None:
        """Drop the oldest that is not the newest verdict."""
        oldest = next(message for message in self._queue if not self._is_newest(message))
        self._queue.remove(oldest)
        self.dropped += 1

    def _is_newest(self, message: Message) -> bool:
        return message.words is not None and message.words == self._words

    def metrics(self) -> tuple[Metric, ...]:
        """What becomes of the messages."""
        results = {"delivered": self.sent, "failed": self.failed, "dropped": self.dropped}
        samples = (({"result": name}, count) for name, count in results.items())
        return (
            gauge("webhook_waiting", "Messages not delivered yet.", one(len(self._queue))),
            counter("webhook_requests_total", "Requests and messages by result.", *samples),
        )


def faults_of(words: tuple[str, ...]) -> frozenset[str]:
    """Those of a verdict's codes that make a Node unhealthy."""
    return frozenset(words) & frozenset(map(str, Fault))


def signature(secret: bytes, message: str, at: str, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body`` (Standard Webhooks)."""
    mac = hmac.new(secret, f"{message}.{at}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()

"""The Pi's end of a task's connections: looks at the TaskSpec's list again, resolves, and dials.

The Machine reaches its Pi alone. A connection that its task defines comes as a stream (see
`agent.formats.stream`) over the Link's port, from the Agent that holds the channel's keys, and from
nobody else. It is let through only while the task runs, only to a `host:port` of the TaskSpec that
this Pi prepared, and only if every address behind the name is one of the public internet; the Agent
checked the list before, but who got past it must not get past the Pi.

The log names what the TaskSpec names. What else was asked for is a function's own word and is
written nowhere: a refusal is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from agent.formats.cbor import FormatError
from agent.formats.stream import (
    IDLE_SECONDS,
    Answer,
    Parts,
    Plain,
    read_target,
    relay,
)
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.machine.addresses import Address, Network, is_own, may_lead_to, plain
from nodeclient.machine.jsonlines import JsonLines
from nodeclient.machine.supply import Supply

NAME = "proxy.jsonl"
MAX_STREAMS = 32
MAX_ADDRESSES = 16  # of one name; more are refused, since all are judged
_TRIES = 3  # addresses that are dialled
_ASK_SECONDS, _RESOLVE_SECONDS, _DIAL_SECONDS = 10.0, 10.0, 8.0

# Threads of their own: a name server that never answers must not hold up what else this Node does.
_RESOLVERS = ThreadPoolExecutor(4, thread_name_prefix="resolve")

Permitted = Callable[[], Sequence[str]]  # the `host:port` strings of the task that runs now
Resolve = Callable[[str, int], Awaitable[list[Address]]]


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """networks: permitted besides the public internet. most_bytes: of one boot's task, both ways
    together. idle_seconds: without a byte in either direction."""

    networks: tuple[Network, ...] = ()
    most_bytes: int = 256 << 20
    idle_seconds: float = IDLE_SECONDS


class Spent(Exception):
    """The task has had its bytes."""


class Refused(Exception):
    """The connection is not made; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.name)
        self.answer = answer


class TaskProxy:
    """Serves the streams of one Machine. `begin` with each boot; `close` ends all."""

    def __init__(
        self,
        rules: ProxyRules,
        permitted: Permitted,
        log: JsonLines,
        report: Report,
        resolve: Resolve | None = None,
    ) -> None:
        self._resolve = resolve or resolve_name
        self._rules, self._permitted, self._log, self._report = rules, permitted, log, report
        self._workers: set[asyncio.Task[None]] = set()
        self._left = rules.most_bytes

    @classmethod
    def of(cls, rules: ProxyRules, supply: Supply, folder: Path, report: Report) -> TaskProxy:
        """The one of a Machine whose private folder is `folder`."""
        return cls(rules, supply.connections, JsonLines(folder / NAME), report)

    def begin(self) -> None:
        """Another boot: its task has all its bytes."""
        self._left = self._rules.most_bytes

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a stream of the Agent's; far too many at once are cut off unread."""
        if len(self._workers) >= 2 * MAX_STREAMS:
            writer.close()
            return
        worker = asyncio.create_task(self._serve(reader, writer))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def close(self) -> None:
        """End every connection."""
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                target = await read_target(reader)
            try:
                number, far_reader, far = await self._open(target)
            except Refused as refusal:
                await _answer(writer, refusal.answer)
                return
            await _answer(writer, Answer.PERMITTED)
            near, beyond = Parts(reader, writer), Plain(far_reader, far)
            await self._relay(near, beyond, number)
        except (OSError, TimeoutError, FormatError, asyncio.IncompleteReadError):
            pass  # one of the two ends is gone: the other is closed, too
        finally:
            for each in (far, writer):
                if each is not None:
                    each.close()
                    with contextlib.suppress(OSError):
                        await each.wait_closed()

    async def _open(self, target: str) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """Dial. The number is the connection's place in the TaskSpec, from 1.

        The log knows it by that: whom a task reaches stands in clear in no file of this Node.
        """
        permitted = self._permitted()
        if target not in permitted:
            self._notice("a connection that the task does not define")
            raise Refused(Answer.REFUSED)
        number = permitted.index(target) + 1
        if len(self._workers) > MAX_STREAMS:
            raise self._refuse(number, Answer.BUSY)
        if self._left <= 0:
            raise self._refuse(number, Answer.SPENT)
        host, _, port = target.rpartition(":")
        addresses = await self._resolve(host.strip("[]"), int(port))
        if not addresses:
            raise self._refuse(number, Answer.UNREACHABLE)
        if len(addresses) > MAX_ADDRESSES or not all(map(self._is_permitted, addresses)):
            self._notice("a name of the task's that leads to no address of the internet")
            raise self._refuse(number, Answer.REFUSED)
        for address in addresses[:_TRIES]:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_DIAL_SECONDS):
                    return number, *await asyncio.open_connection(str(address), int(port))
        raise self._refuse(number, Answer.UNREACHABLE)

    def _is_permitted(self, address: Address) -> bool:
        networks = self._rules.networks
        named = any(address in network for network in networks)
        return may_lead_to(address, networks) and (named or not is_own(address))

    async def _relay(self, near: Parts, far: Plain, number: int) -> None:
        counts = {"sent": 0, "received": 0}

        def moved(sent: int, received: int) -> None:
            self._left -= sent + received
            if self._left < 0:
                raise Spent
            counts["sent"] += sent
            counts["received"] += received

        self._log.write({"event": "opened", "connection": number})
        end = "cut"
        try:
            await relay(near, far, moved, self._rules.idle_seconds)
            end = "closed"
        except Spent:
            end = "spent"
        except TimeoutError:
            end = "idle"
        finally:
            self._log.write({"event": end, "connection": number, **counts})

    def _refuse(self, number: int, answer: Answer) -> Refused:
        self._log.write({"event": answer.name.lower(), "connection": number})
        return Refused(answer)

    def _notice(self, what: str) -> None:
        self._log.write({"event": "refused"})
        self._report(Incident(Kind.PROXY, what))


async def _answer(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(bytes([answer]))
    await writer.drain()


async def resolve_name(host: str, port: int) -> list[Address]:
    """Every address behind a name; none if it has none, or nobody answers."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            found = await loop.run_in_executor(_RESOLVERS, look_up)
    except (OSError, UnicodeError, TimeoutError):
        return []
    texts = (str(entry[4][0]).partition("%")[0] for entry in found)
    return list(dict.fromkeys(plain(ip_address(text)) for text in texts))

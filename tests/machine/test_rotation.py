"""New keys for the cable: the old ones open nothing; a Pi killed at any moment is found again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.boot import BootParameters
from agent.channel import Channel, PiRefused
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.link import HELLO, hello_mac, new_certificate
from agent.formats.rotation import ROTATE, Half, Offer, next_secret
from agent.formats.rpc import Handler, RpcClosed, RpcConnection, RpcError, refuse_all
from agent.keyring import DialKeys
from agent.session import Session
from nodeclient.errors import MachineError
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.rotation import rotate_keys
from tests.agent.test_session import _parameters
from tests.machine.support import some_root
from tests.machine.test_link import dial, serve

SECONDS = 60.0
REPOSITORY = Path(__file__).parents[2]
CUT_OFF = (ssl.SSLError, ConnectionError, RpcError)


def seal_nothing(keys: LinkKeys) -> bytes:
    """A Pi that never restarts needs no slot."""
    return b""


def put_nowhere(sealed: bytes) -> None:
    """The same."""


NO_SLOT = (seal_nothing, put_nowhere)


@dataclass
class Cable:
    """A Pi's link and a Machine's channel on it, the channel running."""

    link: Link
    port: int
    channel: Channel
    session: Session

    @property
    def keys(self) -> DialKeys:
        """What the Agent dials with."""
        [keys] = self.channel._ring.candidates
        return keys

    async def rotate(self) -> None:
        """One rotation, until the Agent is back."""
        await self.link.rotate(*NO_SLOT)
        await self.heard()

    async def heard(self) -> None:
        """Wait until both ends know that they speak under the newest keys."""
        await self.say(0)

    async def say(self, body: object) -> object:
        """One call from the Machine, which repeats it for as long as its lease lasts."""
        async with asyncio.timeout(SECONDS):
            return await self.channel.call("anything", body)


def parameters(folder: Path, port: int, keys: LinkKeys) -> BootParameters:
    return replace(
        _parameters(folder),
        port=port,
        pi_certificate=keys.digest,
        boot_secret=keys.boot_secret,
        lease_seconds=600,
    )


@asynccontextmanager
async def running(channel: Channel) -> AsyncIterator[None]:
    living = asyncio.create_task(channel.run())
    try:
        yield
    finally:
        living.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await living


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Cable]]]:
    """Starts a Machine and its Pi, with these handlers on their sides."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(pi: Handler = serve, agent: Handler = refuse_all) -> Cable:
            link = Link(LinkKeys.fresh(secrets.token_bytes(32)), pi)
            stack.push_async_callback(link.close)
            port = link.listen("127.0.0.1", 0)
            session = Session()
            channel = Channel(parameters(tmp_path, port, link.keys), session, agent)
            await stack.enter_async_context(running(channel))
            await link.agent(SECONDS)
            return Cable(link, port, channel, session)

        yield start


@pytest.fixture
async def cable(connect: Callable[..., Awaitable[Cable]]) -> Cable:
    return await connect()


async def test_rotate__twice__everything_is_new_and_calls_go_on(cable: Cable) -> None:
    seen = []
    for generation in range(3):
        pi, agent = cable.link.keys, cable.keys
        assert pi.generation == agent.generation == generation
        assert pi.boot_secret == agent.secret
        assert pi.digest == agent.pi
        assert pi.agent == sha256(agent.certificate)
        seen += [pi.boot_secret, pi.certificate, pi.key, pi.agent]
        assert await cable.say(generation) == ["anything", generation]
        await cable.rotate()
    assert len(set(seen)) == len(seen)


class Known:
    """A Machine whose every key the test holds, as a thief may later; it rotates once."""

    def __init__(self) -> None:
        self.link = Link(LinkKeys.fresh(b"\5" * 32), serve)
        self.port = self.link.listen("127.0.0.1", 0)
        self.agents = [new_certificate("sealrun agent"), new_certificate("sealrun agent")]
        self.pis = [self.link.keys]
        self.body = {"hpke": b"\6" * 32, "signing": b"\7" * 64}
        self.callers: list[RpcConnection] = []

    async def answer(self, method: str, body: object) -> object:
        assert method == ROTATE
        return Half(sha256(self.agents[1][0]), bytes(32)).to_body()

    async def connect(self, certificate: bytes, key: bytes) -> RpcConnection:
        caller = await dial(self.port, certificate, certificate, key, self.answer)
        self.callers.append(caller)
        return caller

    async def close(self) -> None:
        for caller in self.callers:
            await caller.close()
        await self.link.close()

    async def hello(self, connection: RpcConnection, secret: bytes, certificate: bytes) -> object:
        keys = self.body["hpke"] + self.body["signing"]
        mac = hello_mac(secret, certificate, self.link.keys.certificate, keys)
        return await connection.call(HELLO, {"mac": mac, **self.body}, SECONDS)

    async def enter(self, secret: bytes, certificate: bytes, key: bytes) -> RpcConnection:
        """Dial and say hello. Raises one of CUT_OFF if the Pi does not want it."""
        connection = await self.connect(certificate, key)
        await self.hello(connection, secret, certificate)
        return connection

    async def rotate(self) -> None:
        await self.link.rotate(*NO_SLOT)
        self.pis.append(self.link.keys)


@pytest.fixture
async def known() -> AsyncIterator[Known]:
    """After its first hello."""
    known = Known()
    await known.enter(known.pis[0].boot_secret, *known.agents[0])
    await known.link.agent(SECONDS)
    yield known
    await known.close()


@pytest.mark.parametrize("generation", [0, 1])
async def test_pi__keys_in_use__open_it(known: Known, generation: int) -> None:
    """The control of the next tests: they fail for the keys' age and for nothing else."""
    if generation:
        await known.rotate()
    caller = await known.enter(known.pis[generation].boot_secret, *known.agents[generation])
    assert await caller.call("anything", 1, SECONDS) == ["anything", 1]


@pytest.mark.parametrize(
    ("secret", "certificate"),
    [("old", "old"), ("old", "new"), ("old", "thief"), ("new", "old"), ("new", "thief")],
)
async def test_pi__after_the_switch__old_secret_or_certificate_refused(
    known: Known, secret: str, certificate: str
) -> None:
    await known.rotate()
    shown = {
        "old": known.agents[0],
        "new": known.agents[1],
        "thief": new_certificate("thief"),
    }[certificate]
    used = known.pis[("old", "new").index(secret)].boot_secret
    with pytest.raises(CUT_OFF):
        await known.enter(used, *shown)
    with pytest.raises(MachineError):
        await known.link.agent(0.2)


async def test_pi__certificate_of_a_thief_before_any_switch__refused(known: Known) -> None:
    """Who learns the secret but not the Machine's own key cannot take its place: no TLS even."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await known.connect(*new_certificate("thief"))


async def test_pi__two_certificates_before_the_first_hello__one_admitted() -> None:
    """Both began when no certificate was known yet."""
    known = Known()
    secret = known.pis[0].boot_secret
    first, second = [await known.connect(*each) for each in known.agents]
    await known.hello(first, secret, known.agents[0][0])
    with pytest.raises(RpcError, match="another certificate"):
        await known.hello(second, secret, known.agents[1][0])
    await known.close()


async def test_pi__handshake_begun_before_the_switch__not_admitted(known: Known) -> None:
    caller = await known.connect(*known.agents[0])
    old = known.link.keys
    await known.rotate()
    mac = hello_mac(old.boot_secret, known.agents[0][0], old.certificate, bytes(96))
    with pytest.raises(RpcError, match="replaced"):
        await caller.call(HELLO, {"mac": mac, "hpke": bytes(32), "signing": bytes(64)}, SECONDS)
    with pytest.raises(MachineError):
        await known.link.agent(0.2)


async def test_pi__connection_under_old_keys_stays_open__serves_nothing(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = cable.channel._connection
    assert connection is not None

    async def stay(_: RpcConnection) -> None:
        return None

    with monkeypatch.context() as patched:
        patched.setattr(RpcConnection, "close", stay)
        await cable.link.rotate(*NO_SLOT)
        with pytest.raises(RpcError, match="replaced"):
            await connection.call("anything", 1, SECONDS)
    await connection.close()
    assert await cable.say(1) == ["anything", 1]


async def test_agent__after_the_switch__old_pi_is_refused(
    connect: Callable[..., Awaitable[Cable]],
) -> None:
    """A thief of the Pi's old keys takes its place on the cable: not even a hello leaves."""
    cable = await connect()
    old = cable.link.keys
    await cable.rotate()
    port = cable.port
    await cable.link.close()
    thief = Link(replace(old, agent=b""), serve)
    thief.listen("127.0.0.1", port)
    with pytest.raises(PiRefused, match="not the Pi's"):
        await cable.channel._connect()
    assert thief.session is None
    await thief.close()


async def test_agent__agreed_keys_never_used__old_pi_is_still_known(cable: Cable) -> None:
    """The Pi died before it kept what was agreed: the keys of before are all that it has."""
    old, port = cable.link.keys, cable.port
    await cable.link._agree()
    assert len(cable.channel._ring.candidates) == 2
    await cable.link.close()
    again = Link(old, serve)
    again.listen("127.0.0.1", port)
    await again.agent(SECONDS)
    assert len(cable.channel._ring.candidates) == 2  # the Pi's word may still have been kept
    await again.rotate(*NO_SLOT)
    await cable.heard()
    assert cable.keys.generation == 1
    await again.close()


async def test_rotate__keeping_fails__old_keys_stay_and_the_same_new_ones_come(
    cable: Cable,
) -> None:
    """Whether the disk took them before it failed is unknown: no others may be agreed on."""
    sealed: list[LinkKeys] = []

    def seal(keys: LinkKeys) -> bytes:
        sealed.append(keys)
        return b""

    def full_disk(_: bytes) -> None:
        raise MachineError("disk full", "free some")

    with pytest.raises(MachineError, match="disk full"):
        await cable.link.rotate(seal, full_disk)
    assert cable.link.keys.generation == 0
    assert await cable.say(1) == ["anything", 1]
    await cable.link.rotate(seal, put_nowhere)
    await cable.heard()
    assert sealed == [cable.link.keys] * 2
    assert cable.keys.generation == 1


async def test_rotate__nobody_connected__says_so() -> None:
    link = Link(LinkKeys.fresh(bytes(32)), serve)
    with pytest.raises(MachineError, match="not connected"):
        await link.rotate(*NO_SLOT)


async def test_rotate__calls_on_their_way__repeated_on_the_new_connection(
    connect: Callable[..., Awaitable[Cable]],
) -> None:
    asked: list[str] = []
    first = asyncio.Event()

    async def slow_once(method: str, body: object) -> object:
        if method != "anything":
            asked.append(method)
            if asked.count(method) == 1:
                first.set()
                await asyncio.sleep(3600)
        return [method, body]

    cable = await connect(pi=slow_once, agent=slow_once)
    call = asyncio.create_task(cable.channel.call("to_pi", 1))
    await first.wait()
    first.clear()
    connection = await cable.link.agent(SECONDS)
    broken = asyncio.create_task(connection.call("to_agent", 1, SECONDS))
    await first.wait()
    assert not cable.link.idle
    await cable.rotate()
    assert await call == ["to_pi", 1]
    with pytest.raises(RpcClosed):
        await broken
    connection = await cable.link.agent(SECONDS)
    assert await connection.call("to_agent", 1, SECONDS) == ["to_agent", 1]
    assert asked == ["to_pi", "to_agent", "to_pi", "to_agent"]


def number_of(keys: LinkKeys) -> bytes:
    """Which generation is kept, in place of its keys."""
    return str(keys.generation).encode()


async def test_rotate__root_takes_its_time__node_goes_on_and_who_gives_up_keeps_nothing(
    cable: Cable,
) -> None:
    """A device that hangs for its whole patience must not hold up the Node, nor a power cut."""
    sealing, over, kept = threading.Event(), threading.Event(), []

    def slow(keys: LinkKeys) -> bytes:
        sealing.set()
        over.wait(SECONDS)
        return number_of(keys)

    rotating = asyncio.create_task(cable.link.rotate(slow, kept.append))
    assert await asyncio.to_thread(sealing.wait, SECONDS)
    assert await cable.say(1) == ["anything", 1]
    rotating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rotating
    over.set()
    assert await cable.say(2) == ["anything", 2]
    assert kept == []
    assert cable.link.keys.generation == 0


async def test_schedule__each_pause__one_rotation_when_nothing_is_on_its_way(
    connect: Callable[..., Awaitable[Cable]],
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    due: asyncio.Queue[None] = asyncio.Queue()

    async def slow(method: str, body: object) -> object:
        begun.set()
        await release.wait()
        return method

    cable = await connect(agent=slow)
    connection = await cable.link.agent(SECONDS)
    kept: asyncio.Queue[bytes] = asyncio.Queue()
    worker = asyncio.create_task(rotate_keys(cable.link, number_of, kept.put_nowait, due.get))
    due.put_nowait(None)
    assert await kept.get() == b"1"
    connection = await cable.link.agent(SECONDS)
    long = asyncio.create_task(connection.call("long", None, SECONDS))
    await begun.wait()
    due.put_nowait(None)
    await asyncio.sleep(0.3)
    assert kept.empty()
    release.set()
    assert await long == "long"
    assert await kept.get() == b"2"
    worker.cancel()


async def test_schedule__a_rotation_fails__the_next_is_tried(cable: Cable) -> None:
    due: asyncio.Queue[None] = asyncio.Queue()
    tried: asyncio.Queue[bytes] = asyncio.Queue()

    def fail_first(sealed: bytes) -> None:
        tried.put_nowait(sealed)
        if tried.qsize() == 1:
            raise MachineError("disk full", "free some")

    worker = asyncio.create_task(rotate_keys(cable.link, number_of, fail_first, due.get))
    due.put_nowait(None)
    due.put_nowait(None)
    while tried.qsize() < 2 or cable.link.keys.generation == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    worker.cancel()


@pytest.mark.parametrize(
    "body",
    [None, {}, {"generation": 2}, {"generation": 2, "certificate": bytes(32), "random": bytes(32)},
     {"generation": 1, "certificate": bytes(31), "random": bytes(32)},
     {"generation": True, "certificate": bytes(32), "random": bytes(32)},
     {"generation": 1, "certificate": bytes(32), "random": bytes(32), "more": 1}],
)  # fmt: skip
async def test_agent__offer_that_does_not_follow__refused(cable: Cable, body: object) -> None:
    connection = await cable.link.agent(SECONDS)
    with pytest.raises(RpcError, match=r"rotation|generation|expected"):
        await connection.call(ROTATE, body, SECONDS)
    assert cable.keys.generation == 0


def test_next_secret__each_part__changes_it() -> None:
    """Who has the old secret lacks both halves; who has both halves lacks the old secret."""
    offer, answer = Offer(1, Half(b"\1" * 32, b"\2" * 32)), Half(b"\3" * 32, b"\4" * 32)
    variants = [
        next_secret(b"\5" * 32, offer, answer),
        next_secret(b"\6" * 32, offer, answer),
        next_secret(b"\5" * 32, replace(offer, generation=2), answer),
        next_secret(b"\5" * 32, Offer(1, replace(offer.half, certificate=b"\6" * 32)), answer),
        next_secret(b"\5" * 32, Offer(1, replace(offer.half, random=b"\6" * 32)), answer),
        next_secret(b"\5" * 32, offer, replace(answer, certificate=b"\6" * 32)),
        next_secret(b"\5" * 32, offer, replace(answer, random=b"\6" * 32)),
    ]
    assert len(set(variants)) == len(variants)
    assert {len(one) for one in variants} == {32}


def test_half__damaged__refused() -> None:
    for body in (None, [], {"certificate": bytes(32)}, {"certificate": bytes(33), "random": b""}):
        with pytest.raises(FormatError):
            Half.from_body(body)


# ------------------------------------------------------------------------------------ the slot

SESSION = (b"\1" * 32, b"\2" * 64)


def test_slot__newest_keys__come_back_and_are_nowhere_in_clear(tmp_path: Path) -> None:
    slot = KeySlot(tmp_path / "slot", some_root())
    first = replace(LinkKeys.fresh(b"\5" * 32), agent=b"\6" * 32)
    second = replace(first, boot_secret=b"\7" * 32, generation=1)
    slot.put(slot.seal(SESSION, first))
    slot.put(slot.seal(SESSION, second))
    assert slot.load(SESSION) == second
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    for secret in (second.boot_secret, second.key, first.boot_secret):
        assert secret not in file.read_bytes()


def test_slot__another_boot_damaged_or_gone__refused(tmp_path: Path) -> None:
    slot = KeySlot(tmp_path / "slot", some_root())
    slot.put(slot.seal(SESSION, replace(LinkKeys.fresh(b"\5" * 32), agent=b"\6" * 32)))
    with pytest.raises(MachineError, match="another boot"):
        slot.load((SESSION[0], b"\3" * 64))
    whole = (tmp_path / "slot").read_bytes()
    (tmp_path / "slot").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(MachineError, match="boot the Machine again"):
        slot.load(SESSION)
    slot.drop()
    slot.drop()
    with pytest.raises(MachineError, match="boot the Machine again"):
        slot.load(SESSION)


def test_slot__no_room__says_so(tmp_path: Path) -> None:
    slot = KeySlot(tmp_path / "missing" / "slot", some_root())
    with pytest.raises(MachineError, match="cannot be kept"):
        slot.put(slot.seal(SESSION, LinkKeys.fresh(b"\5" * 32)))


# ------------------------------------------------------------- a Pi killed between any two steps


async def start_pi(folder: Path, port: int, moment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.machine.rotating_pi", str(folder), str(port), moment),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )


async def line(process: asyncio.subprocess.Process) -> dict[str, object]:
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        return dict(json.loads(await process.stdout.readline()))


@pytest.mark.parametrize(
    ("moment", "generation"),
    [("offered", 0), ("agreed", 0), ("sealed", 0), ("kept", 1), ("used", 1), ("closed", 1)],
)
async def test_pi_killed__at_any_moment_of_a_rotation__found_again(
    tmp_path: Path, moment: str, generation: int
) -> None:
    """`generation`: which the next daemon finds on its disk, and the Agent dials it with that."""
    pi = await start_pi(tmp_path, 0, moment)
    after = None
    try:
        told = await line(pi)
        port = int(str(told["port"]))
        boot = replace(
            _parameters(tmp_path),
            port=port,
            pi_certificate=bytes.fromhex(str(told["certificate"])),
            boot_secret=b"\5" * 32,
            lease_seconds=600,
        )
        channel = Channel(boot, Session(), refuse_all)
        if moment == "offered":
            agree = channel._ring.agree

            def agree_with_the_dead(body: object) -> object:
                os.kill(pi.pid, signal.SIGKILL)
                return agree(body)

            channel._ring.agree = agree_with_the_dead  # type: ignore[method-assign]
        async with running(channel):
            assert await line(pi) == {"heard": 0}
            async with asyncio.timeout(SECONDS):
                assert await pi.wait() == -signal.SIGKILL
            if moment == "offered":
                channel._ring.agree = agree  # type: ignore[method-assign]
            after = await start_pi(tmp_path, port, "never")
            assert (await line(after))["port"] == port
            assert await line(after) == {"heard": generation}
            assert await line(after) == {"heard": generation + 1}
            async with asyncio.timeout(SECONDS):
                assert await channel.call("anything", 1) == ["anything", 1]
            [keys] = channel._ring.candidates
            assert keys.generation == generation + 1
    finally:
        for process in (pi, after):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()

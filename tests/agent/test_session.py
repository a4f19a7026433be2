"""Keys, cleaning and secrets: what the Agent gives out, when, and what it leaves."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from agent.boot import BootParameters
from agent.channel import Channel
from agent.engine import Engine
from agent.erase import erase_task
from agent.formats import cbor, hpke
from agent.formats.cbor import FormatError
from agent.formats.messages import DURING, Context, Prepare, Question, Release
from agent.formats.outcome import State, Transcript
from agent.formats.p256 import SigningKey
from agent.formats.protocol import release_info
from agent.scratch import make_scratch
from agent.session import Session, SessionGone
from nodeclient.errors import MachineRefused
from nodeclient.machine.resume import ResumeRecord
from tests.images.small import small_image
from tests.machine.fixtures import traces
from tests.machine.support import CHAIN, MARKET, TASK, Pi

SLEEP = "import time; time.sleep(60)"


async def code_of(pi: Pi, method: str, body: object) -> str:
    with pytest.raises(MachineRefused) as answer:
        await pi.machine.call(method, body)
    return answer.value.code


@pytest.mark.parametrize("changed", ["chain", "market", "task", "cid", "root", "session"])
async def test_release__sealed_for_something_else__refused(pi: Pi, changed: str) -> None:
    job = pi.job("pass", {"one": b"ada"})
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    root = (await pi.ask(job)).root
    cid, other = job.spec.function.cid, job.spec.inputs[0].cid
    info = release_info(
        CHAIN + (changed == "chain"),
        bytes(20) if changed == "market" else MARKET,
        TASK + (changed == "task"),
        other if changed == "cid" else cid,
        secrets.token_bytes(31) + b"\0" if changed == "root" else root,
    )
    key = hpke.generate()[1] if changed == "session" else session.hpke
    release = Release(cid, hpke.seal(key, info, job.keys[cid]))
    assert await code_of(pi, "release", release.to_body()) == "bad_key"
    assert (await pi.status()).missing == (cid, other)


async def test_release__capsule_the_task_does_not_name__refused(pi: Pi) -> None:
    job, other = pi.job("pass"), pi.job("print()")
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    root = (await pi.ask(job)).root
    release = pi.release(other, other.spec.function.cid, session, root)
    assert await code_of(pi, "release", release.to_body()) == "bad_request"


async def test_release__before_any_question__refused(pi: Pi) -> None:
    job = pi.job("pass")
    session = await pi.machine.boot(1)
    release = pi.release(job, job.spec.function.cid, session, bytes(32))
    assert await code_of(pi, "release", release.to_body()) == "not_prepared"
    await pi.prepare(job)
    assert await code_of(pi, "release", release.to_body()) == "bad_key"


async def test_release__said_twice__taken_once(pi: Pi) -> None:
    job = pi.job("pass")
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    release = pi.release(job, job.spec.function.cid, session, (await pi.ask(job)).root)
    await pi.machine.call("release", release.to_body())
    await pi.machine.call("release", release.to_body())
    await pi.until_done()
    await pi.machine.call("release", release.to_body())


async def test_prepare__spec_does_not_open_the_commitment__refused(pi: Pi) -> None:
    job, other = pi.job("pass"), pi.job("print()")
    await pi.machine.boot(1)
    order = Prepare(other.spec.encode(), job.context, 3)
    assert await code_of(pi, "prepare", order.to_body()) == "bad_request"
    assert (await pi.status()).state is State.FRESH


async def test_prepare__twice__same_task_is_fine_and_another_refused(pi: Pi) -> None:
    job, other = pi.job("pass"), pi.job("print()")
    await pi.machine.boot(1)
    assert await pi.prepare(job) == await pi.prepare(job)
    order = Prepare(other.spec.encode(), other.context, 3)
    assert await code_of(pi, "prepare", order.to_body()) == "conflict"


async def test_prepare__image_id_that_nobody_has__refused_and_nothing_left(
    pi: Pi, engine: docker.DockerClient
) -> None:
    job = pi.job("pass", runtime_image=b"\x77" * 32)
    await pi.machine.boot(1)
    order = Prepare(job.spec.encode(), job.context, 3)
    assert await code_of(pi, "prepare", order.to_body()) == "image_refused"
    assert [each for each in traces(engine, pi) if not each.startswith("process")] == []
    assert (await pi.status()).state is State.FRESH


async def test_prepare__pi_sends_another_image__refused(pi: Pi) -> None:
    """The tar that arrives verifies, but is not the image that the task names."""
    wanted = b"\x77" * 32
    job = pi.job("pass", runtime_image=wanted)

    async def any_image(_: bytes) -> Path:
        return pi.image

    pi.machine._find_image = any_image
    await pi.machine.boot(1)
    order = Prepare(job.spec.encode(), job.context, 3)
    assert await code_of(pi, "prepare", order.to_body()) == "image_refused"


async def test_clean__before_enough_distinct_answers__refused(pi: Pi) -> None:
    job = pi.job("pass")
    await pi.run(job)
    nonce = secrets.token_bytes(32)
    for expected in (nonce, nonce, secrets.token_bytes(32)):
        assert await code_of(pi, "clean", {}) == "too_early"
        await pi.ask(job, DURING, expected)
    assert (await pi.status()).answers == 2  # the same nonce twice counts once
    assert await code_of(pi, "clean", {}) == "too_early"
    await pi.ask(job, DURING)
    transcript = await pi.machine.call("clean", {})
    assert isinstance(transcript, bytes)
    assert len(Transcript.open(transcript).answers) == 3
    assert await pi.machine.call("clean", {}) == transcript


async def test_clean__while_it_runs__refused(pi: Pi) -> None:
    job = pi.job(SLEEP)
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    assert await code_of(pi, "clean", {}) == "too_early"


async def test_clean__afterwards__nothing_remains_and_session_is_gone(
    pi: Pi, engine: docker.DockerClient
) -> None:
    job = pi.job("open('/capsule/out/first/f','w').write('x')", {"one": b"ada"})
    outcome = await pi.run(job)
    transcript = Transcript.open(await pi.clean(job))
    assert transcript.outcome == outcome
    assert transcript.checked == {"containers": True, "scratch": True, "content_keys": True}
    assert transcript.removed["containers"] == 1
    assert transcript.removed["files"] == 3  # function, input, output
    assert [each for each in traces(engine, pi) if not each.startswith("process")] == []
    assert await code_of(
        pi, "ask", Question(secrets.token_bytes(32), job.at(DURING)).to_body()
    ) in ("wrong_phase", "session_gone")


async def test_clean__image_that_the_agent_brought__removed(
    pi: Pi, engine: docker.DockerClient
) -> None:
    image_id, path = small_image(pi.folder, b"brought")
    pi.image_id, pi.image = image_id, path
    pi.machine = pi.new_machine()
    job = pi.job("pass", command=("/none",))
    await pi.run(job)
    assert pi.image_asked > 0
    name = "sha256:" + image_id.hex()
    assert engine.images.get(name).id == name
    assert engine.images.get(name).tags == []
    transcript = Transcript.open(await pi.clean(job))
    assert (transcript.removed["images"], transcript.checked["images"]) == (1, True)
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get(name)


async def test_power_off__image_that_the_agent_brought__removed(
    pi: Pi, engine: docker.DockerClient
) -> None:
    image_id, path = small_image(pi.folder, b"cut")
    pi.image_id, pi.image = image_id, path
    pi.machine = pi.new_machine()
    job = pi.job("pass")
    await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.machine.power_off()
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get("sha256:" + image_id.hex())


async def test_stop__at_any_moment__transcript_and_nothing_left(
    pi: Pi, engine: docker.DockerClient
) -> None:
    job = pi.job(SLEEP)
    session = await pi.machine.boot(1)
    assert await code_of(pi, "stop", {}) == "not_prepared"
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    transcript = await pi.machine.call("stop", {})
    assert isinstance(transcript, bytes)
    opened = Transcript.open(transcript)
    assert opened.clean
    assert opened.outcome is not None
    assert opened.outcome.status == "STOPPED"
    assert [each for each in traces(engine, pi) if not each.startswith("process")] == []


def test_transcript__one_check_failed__is_not_clean() -> None:
    context = Context(1, bytes(20), 1, bytes(32), bytes(20), 1, 0)
    key = SigningKey.generate()
    good = Transcript(bytes(32), key.public, context, None, (), {"files": 1}, {"scratch": True})
    assert Transcript.open(good.sign(key)).clean
    assert not replace(good, checked={"scratch": True, "containers": False}).clean
    assert not replace(good, checked={}).clean


async def test_session__secrets__in_no_file_argument_or_environment(pi: Pi) -> None:
    """The boot secret is in the key slot, sealed, and nowhere else: not in the resume record."""
    job = pi.job("pass", {"one": b"a very secret name"})
    session = await pi.machine.boot(1)
    record = ResumeRecord.decode(session.resume)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    await pi.until_done()
    assert record.process is not None
    process = Path(f"/proc/{record.process[0]}")
    channel = pi.slot.load((session.hpke, session.signing))
    seen = session.resume + (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    for file in pi.folder.rglob("*"):
        if file.is_file() and "scratch" not in file.parts and "source" not in file.parts:
            seen += file.read_bytes()
    for secret in (channel.boot_secret, channel.key, *job.keys.values()):
        assert secret not in seen
        assert secret.hex().encode() not in seen
    assert b"a very secret name" not in seen
    assert os.readlink(process / "fd/0") == os.devnull
    limits = (process / "limits").read_text().splitlines()
    assert next(line for line in limits if "core file" in line).split()[4:6] == ["0", "0"]


async def test_session__private_keys__never_reach_a_file(pi: Pi, tmp_path: Path) -> None:
    """The session in this very process: whatever it does, no file holds its private key."""
    session = Session()
    private = session._private
    assert private is not None
    boot = _parameters(tmp_path)
    Channel(boot, session, _nothing)
    engine = Engine(boot.docker, boot.machine)
    erase_task(engine, make_scratch(boot.scratch, sealed=False), None)
    engine.close()
    for folder in (tmp_path, Path("/dev/shm")):
        for file in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # /dev/shm is everybody's
                assert not file.is_file() or private not in file.read_bytes()
    session.drop()
    with pytest.raises(SessionGone):
        session.open_any([b""], bytes(80))
    with pytest.raises(SessionGone):
        _ = session.signer


def test_boot_parameters__round_trip(tmp_path: Path) -> None:
    boot = _parameters(tmp_path)
    assert BootParameters.decode(boot.encode()) == boot


@pytest.mark.parametrize("text", ["run/x", "/run//x", "/run/x/", "/run/./x", "."])
def test_boot_parameters__path_that_is_not_plain__refused(tmp_path: Path, text: str) -> None:
    body = cbor.decode(_parameters(tmp_path).encode(), 1 << 16)
    assert isinstance(body, dict)
    with pytest.raises(FormatError, match="plain absolute path"):
        BootParameters.decode(cbor.encode(body | {"docker": text}))


async def _nothing(method: str, body: object) -> object:
    return None


def _parameters(folder: Path) -> BootParameters:
    return BootParameters(
        *(b"\4" * 32, b"\1" * 32, b"\2" * 32, "127.0.0.1", 1, b"\3" * 32, 1),
        *(folder / "scratch", Path("/var/run/docker.sock"), "test", 1, 1 << 20, ("machine",)),
    )

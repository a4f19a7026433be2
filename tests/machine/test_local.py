"""The local Machine: it outlives its daemon, is found again, and leaves nothing when it is off."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from agent.formats.outcome import Ending
from agent.formats.taskspec import TaskSpec
from nodeclient.errors import MachineError
from nodeclient.machine.local import LocalMachine, LocalSettings
from nodeclient.machine.power import LABEL, kill_process, started_at
from nodeclient.machine.resume import ResumeRecord
from nodeclient.machine.supply import Supply
from nodeclient.ports import Session
from tests.machine.fixtures import traces
from tests.machine.support import Job, Pi

REPOSITORY = Path(__file__).parents[2]
SLEEP = "import time; time.sleep(600)"
WRITE = "import time; time.sleep(2); open('/capsule/out/first/f', 'w').write('done')"


@dataclass
class Daemon:
    """A daemon in a process of its own."""

    process: asyncio.subprocess.Process
    resume: bytes
    spec: TaskSpec


def pid_of(session: Session) -> int:
    process = ResumeRecord.decode(session.resume).process
    assert process is not None
    return process[0]


StartDaemon = Callable[[str, int], Awaitable[Daemon]]


@pytest.fixture
async def start_daemon(pi: Pi) -> AsyncIterator[StartDaemon]:
    started: list[asyncio.subprocess.Process] = []

    async def start(code: str, lease: int) -> Daemon:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.machine.daemon", str(pi.folder), str(pi.image)),
            *(pi.image_id.hex(), str(lease), code),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(180):
            resume, spec = (await process.stdout.readline()).split()
        return Daemon(
            process, bytes.fromhex(resume.decode()), TaskSpec.decode(bytes.fromhex(spec.decode()))
        )

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_daemon_killed__machine_runs_on_and_the_next_daemon_finds_it(
    pi: Pi, start_daemon: StartDaemon
) -> None:
    daemon = await start_daemon(WRITE, 60)
    daemon.process.kill()
    await daemon.process.wait()
    [before] = pi.processes()
    pi.load_blocks()
    session = await pi.machine.resume(daemon.resume)
    assert session.resume == daemon.resume
    assert (await pi.until_done()).status is Ending.RAN
    assert pi.processes() == [before]
    job = Job(daemon.spec, {}, {})
    assert (await pi.ask(job, 2)).session() == (session.hpke, session.signing)


async def test_daemon_killed__nobody_returns__agent_cleans_within_its_lease(
    pi: Pi, start_daemon: StartDaemon, engine: docker.DockerClient
) -> None:
    daemon = await start_daemon(SLEEP, 8)
    label = {"label": f"{LABEL}={pi.label}"}
    await until(lambda: bool(engine.containers.list(filters=label)))
    assert traces(engine, pi)
    daemon.process.kill()
    await daemon.process.wait()
    await until(lambda: not traces(engine, pi))
    with pytest.raises(MachineError, match="boot it again"):
        await pi.machine.resume(daemon.resume)


async def test_boot__earlier_machine_of_a_forgotten_daemon__replaced(
    pi: Pi, start_daemon: StartDaemon
) -> None:
    """A daemon that lost its record must not leave two Machines behind one Pi."""
    daemon = await start_daemon(SLEEP, 60)
    daemon.process.kill()
    await daemon.process.wait()
    [old] = pi.processes()
    await pi.machine.boot(2)
    assert old not in pi.processes()
    assert len(pi.processes()) == 1


async def test_resume__channel_away_while_results_are_put__they_arrive(
    pi: Pi, engine: docker.DockerClient
) -> None:
    job = pi.job(WRITE)
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    label = {"label": f"{LABEL}={pi.label}"}
    await until(lambda: bool(engine.containers.list(filters=label)))
    await pi.machine.let_go()
    # The function ends meanwhile, and the Agent cannot put its results.
    await until(lambda: not engine.containers.list(filters=label))
    await asyncio.sleep(1)
    pi.machine = pi.new_machine()
    await pi.machine.resume(session.resume)
    outcome = await pi.until_done()
    assert pi.open_result(job, "first", outcome.results["first"]) == {"f": b"done"}


async def test_call__channel_let_go_meanwhile__fails_at_once(pi: Pi) -> None:
    """Nobody dials that link again: who waited for it would take a minute for the machine's."""
    await pi.machine.boot(1)
    link = pi.machine._link
    assert link is not None
    await pi.machine.let_go()
    with pytest.raises(MachineError, match="let go"):
        await pi.machine._connection(link)


async def test_call__agent_was_killed__error_and_power_off_cleans(
    pi: Pi, engine: docker.DockerClient
) -> None:
    job = pi.job(SLEEP)
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    label = {"label": f"{LABEL}={pi.label}"}
    await until(lambda: bool(engine.containers.list(filters=label)))
    os.kill(pid_of(session), signal.SIGKILL)
    with pytest.raises(MachineError):
        await pi.machine.call("status", {})
    assert not pi.machine.alive
    assert traces(engine, pi)  # a PC whose kernel died still holds its RAM: only power clears it
    await pi.machine.power_off()
    assert traces(engine, pi) == []


async def test_resume__agent_was_killed__refused_and_nothing_is_left(
    pi: Pi, engine: docker.DockerClient
) -> None:
    """Who gives a lost Machine up never calls it again: finding it off must clear its RAM."""
    job = pi.job(SLEEP)
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    label = {"label": f"{LABEL}={pi.label}"}
    await until(lambda: bool(engine.containers.list(filters=label)))
    os.kill(pid_of(session), signal.SIGKILL)
    await until(lambda: not pi.machine.alive)
    assert traces(engine, pi)
    with pytest.raises(MachineError, match="boot it again"):
        await pi.new_machine().resume(session.resume)
    assert traces(engine, pi) == []


async def test_rotate__during_a_whole_job__nothing_is_lost(pi: Pi) -> None:
    """Keys change twice a second, under image, keys, questions, results and cleaning."""
    pi.rotate_seconds = 0.5
    pi.machine = pi.new_machine()
    job = pi.job(WRITE)
    session = await pi.machine.boot(1)
    first = pi.slot.load((session.hpke, session.signing))
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    outcome = await pi.until_done()
    assert pi.open_result(job, "first", outcome.results["first"]) == {"f": b"done"}
    await pi.clean(job)
    last = pi.slot.load((session.hpke, session.signing))
    assert last.generation > first.generation
    assert not {first.boot_secret, first.key, first.agent} & {
        last.boot_secret,
        last.key,
        last.agent,
    }


async def test_resume__channel_keys_lost__power_is_cut(pi: Pi, engine: docker.DockerClient) -> None:
    """A Machine that nobody can reach any more must not run on."""
    session = await pi.machine.boot(1)
    await pi.machine.let_go()
    pi.slot.drop()
    with pytest.raises(MachineError, match="boot the Machine again"):
        await pi.new_machine().resume(session.resume)
    assert traces(engine, pi) == []


async def test_terminate__agent_cleans_before_it_ends(pi: Pi, engine: docker.DockerClient) -> None:
    job = pi.job(SLEEP)
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    os.kill(pid_of(session), signal.SIGTERM)
    await until(lambda: not traces(engine, pi))


async def test_boot__no_docker__fails_with_one_line(tmp_path: Path, pi: Pi) -> None:
    settings = LocalSettings(tmp_path / "other", docker=tmp_path / "no.sock", boot_seconds=180)
    machine = LocalMachine(settings, Supply(pi.get, pi.put, pi.find_image), pi.slot)
    with pytest.raises(MachineError, match="Docker"):
        await machine.boot(1)
    assert not machine.alive


async def test_resume__damaged_record__refused(pi: Pi) -> None:
    session = await pi.machine.boot(1)
    for damaged in (b"", session.resume[:-1], session.resume + b"\0"):
        with pytest.raises(MachineError, match="boot the Machine again"):
            await pi.new_machine().resume(damaged)


async def test_call__machine_is_off__refused(pi: Pi) -> None:
    with pytest.raises(MachineError, match="boot it"):
        await pi.machine.call("status", {})


async def test_call__method_that_the_agent_has_not__refused(pi: Pi) -> None:
    await pi.machine.boot(1)
    with pytest.raises(MachineError, match="no shell"):
        await pi.machine.call("shell", {})


def test_kill__pid_that_came_back__other_process_lives() -> None:
    """The pid is this test's own, the start is another's: nothing may happen to us."""
    started = started_at(os.getpid())
    assert started is not None
    kill_process(os.getpid(), started + 1)
    assert started_at(os.getpid()) == started


async def test_resume__memory__agent_stays_small(pi: Pi) -> None:
    """120 MB is the bound of a node process; its Agent is held to the same."""
    job = pi.job("pass")
    await pi.run(job)
    [process] = pi.processes()
    status = await asyncio.to_thread(Path(f"/proc/{process}/status").read_text)
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    assert int(resident.split()[1]) < 120 * 1024

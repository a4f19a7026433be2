"""Misbehaviour between questions, many times: it is found as often as the formula says.

A program that belongs to nobody runs for a moment, again and again; a member asks a real Agent at
the times of the real scheduler. The questions are four a second, not one in two seconds, and the
moments shorter in proportion. The same with 10⁶ moments and no Agent: ``make evasion``.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import shutil
import time
from pathlib import Path

from agent.formats.messages import DURING
from nodeclient.attestation.schedule import next_wait
from nodeclient.core import claims
from nodeclient.errors import MachineError
from tests.machine.support import Job, Pi

RATE = 4.0  # questions a second
MOMENT = 0.25  # seconds: as 2 s at the default rate of one question in two seconds
MOMENTS = 120
PAUSE = 0.1
LATE = 3.0  # seconds in which questions that are on their way are answered


async def test_moments_between_questions__found_as_often_as_one_minus_e_to_minus_rate_times_length(
    pi: Pi, tmp_path: Path
) -> None:
    job = pi.job("import time; time.sleep(600)")
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    seen: set[object] = set()
    asking = asyncio.create_task(_ask(pi, job, seen))
    await asyncio.sleep(1 / RATE)
    lengths: dict[bytes, float] = {}
    for number in range(MOMENTS):
        program = _program(tmp_path / f"intruder-{number}")
        lengths[hashlib.sha256(program.read_bytes()).digest()] = await _misbehave(program)
        await asyncio.sleep(PAUSE)
    await asyncio.sleep(LATE)
    asking.cancel()
    await asyncio.wait([asking])
    await pi.machine.power_off()
    chances = [1 - math.exp(-RATE * length) for length in lengths.values()]
    found = sum(digest in seen for digest in lengths)
    spread = math.sqrt(sum(chance * (1 - chance) for chance in chances))
    # Four standard deviations: one honest run in sixteen thousand lies outside.
    assert abs(found - sum(chances)) < 4 * spread, (found, sum(chances), spread)
    assert 0 < found < MOMENTS  # with so many, neither never nor always


async def _ask(pi: Pi, job: Job, seen: set[object]) -> None:
    """Questions at the scheduler's times, whatever the answers take; digests of all programs."""

    async def one() -> None:
        evidence = await pi.ask(job, DURING, secrets.token_bytes(32))
        seen.update(row[1] for row in claims.rows(evidence, "executable"))

    answers: set[asyncio.Task[None]] = set()
    try:
        while True:
            await asyncio.sleep(next_wait(RATE))
            answers.add(asyncio.create_task(one()))
    finally:
        for answer in answers:
            answer.cancel()
        done = await asyncio.gather(*answers, return_exceptions=True)
        failed = [each for each in done if isinstance(each, MachineError)]
        assert not failed, failed


async def _misbehave(program: Path) -> float:
    """Run it for MOMENT; for how many seconds it ran."""
    process = await asyncio.create_subprocess_exec(program, "600")
    began = time.monotonic()
    await asyncio.sleep(MOMENT)
    process.kill()
    length = time.monotonic() - began
    await process.wait()
    return length


def _program(path: Path) -> Path:
    """sleep(1) with bytes behind it that nobody else has."""
    shutil.copyfile("/bin/sleep", path)
    with path.open("ab") as more:
        more.write(secrets.token_bytes(16))
    path.chmod(0o755)
    return path

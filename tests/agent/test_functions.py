"""The function contract, and functions that behave badly: each ends in one clear outcome."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest

from agent.formats.archive import pack
from agent.formats.capsule import Kind
from agent.formats.outcome import Ending
from agent.formats.taskspec import FunctionRef
from tests.machine.support import LIMITS, Pi

COMMON = """
from pathlib import Path
one, two = (set(Path("/capsule/in", n).read_text().split()) for n in ("one", "two"))
for receiver in Path("/capsule/out").iterdir():
    (receiver / "common.txt").write_text("\\n".join(sorted(one & two)))
"""


async def test_run__two_inputs__each_receiver_opens_its_own_result(pi: Pi) -> None:
    job = pi.job(COMMON, {"one": b"ada bo cy", "two": b"bo cy di"})
    outcome = await pi.run(job)
    assert (outcome.status, outcome.exit_code, outcome.empty) == (Ending.RAN, 0, ())
    for name, cid in outcome.results.items():
        assert pi.open_result(job, name, cid) == {"common.txt": b"bo\ncy"}
    assert outcome.results["first"] != outcome.results["second"]


async def test_run__exits_non_zero__outcome_has_the_code(pi: Pi) -> None:
    outcome = await pi.run(pi.job("raise SystemExit(3)"))
    assert (outcome.status, outcome.exit_code) == (Ending.RAN, 3)


async def test_run__writes_nothing__receivers_get_empty_archives_and_are_named(pi: Pi) -> None:
    job = pi.job("pass")
    outcome = await pi.run(job)
    assert outcome.empty == ("first", "second")
    assert pi.open_result(job, "first", outcome.results["first"]) == {}


async def test_run__writes_for_an_unnamed_receiver__noted_and_never_sealed(pi: Pi) -> None:
    job = pi.job(
        "import os\n"
        "os.mkdir('/capsule/out/outsider'); open('/capsule/out/outsider/f','w').write('x')\n"
        "open('/capsule/out/first/f','w').write('y')"
    )
    outcome = await pi.run(job)
    assert outcome.errors == ("UNNAMED_RECEIVER",)
    assert set(outcome.results) == {"first", "second"}
    assert "outsider" not in repr(outcome)
    assert pi.open_result(job, "first", outcome.results["first"]) == {"f": b"y"}


async def test_run__result_is_a_link_to_the_host__not_followed(pi: Pi) -> None:
    job = pi.job(
        "import os\n"
        "os.symlink('/etc/shadow', '/capsule/out/first/f')\n"
        "os.rmdir('/capsule/out/second'); os.symlink('/root', '/capsule/out/second')"
    )
    outcome = await pi.run(job)
    assert outcome.errors == ("UNREADABLE_OUTPUT",)
    for name in ("first", "second"):
        assert pi.open_result(job, name, outcome.results[name]) == {}


async def test_run__forks_without_end__bounded_and_ends(pi: Pi) -> None:
    code = (
        "import os\n"
        "made = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0:\n"
        "            import time; time.sleep(60)\n"
        "        made += 1\n"
        "except OSError:\n"
        "    open('/capsule/out/first/made', 'w').write(str(made))\n"
    )
    job = pi.job(code, limits=replace(LIMITS, pids=16))
    outcome = await pi.run(job)
    assert outcome.status is Ending.RAN
    made = int(pi.open_result(job, "first", outcome.results["first"])["made"])
    assert 1 <= made < 16


async def test_run__fills_the_disk__stops_at_its_scratch_bytes(pi: Pi) -> None:
    code = (
        "import os\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        with open(f'/capsule/out/first/{n}', 'wb') as f: f.write(bytes(1 << 20))\n"
        "        n += 1\n"
        "except OSError as error:\n"
        "    os.remove('/capsule/out/first/0')\n"
        "    open('/capsule/out/second/error', 'w').write(f'{error.errno} {n}')\n"
    )
    job = pi.job(code, limits=replace(LIMITS, scratch_bytes=4 << 20))
    outcome = await pi.run(job)
    assert outcome.status is Ending.RAN
    error, written = pi.open_result(job, "second", outcome.results["second"])["error"].split()
    assert (int(error), int(written)) == (28, 4)  # ENOSPC behind exactly 4 MiB


async def test_run__uses_more_memory_than_permitted__out_of_memory(pi: Pi) -> None:
    job = pi.job("x = b'1' * (1 << 30)", limits=replace(LIMITS, memory_bytes=32 << 20))
    outcome = await pi.run(job)
    assert (outcome.status, outcome.exit_code, outcome.results) == (
        Ending.OUT_OF_MEMORY,
        None,
        {},
    )


async def test_run__past_its_time_limit__killed_and_nothing_sealed(pi: Pi) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open('/capsule/out/first/part', 'w').write('half')\n"
        "while True: time.sleep(1)"
    )
    job = pi.job(code, limits=replace(LIMITS, seconds=2))
    outcome = await pi.run(job)
    assert (outcome.status, outcome.exit_code, outcome.results) == (Ending.TIMEOUT, None, {})


async def test_run__command_does_not_exist__not_started(pi: Pi) -> None:
    outcome = await pi.run(pi.job("pass", command=("/no/such/program",)))
    assert (outcome.status, outcome.exit_code) == (Ending.NOT_STARTED, None)


async def test_run__input_is_in_no_store__input_missing(pi: Pi) -> None:
    job = pi.job("pass", {"one": b"ada"})
    for cid in [entry.cid for entry in job.spec.inputs]:
        del pi.blocks[cid]
    outcome = await pi.run(job)
    assert (outcome.status, outcome.results) == (Ending.INPUT_MISSING, {})


async def test_run__input_block_was_swapped__input_bad(pi: Pi) -> None:
    job = pi.job("pass", {"one": b"ada"})
    pi.blocks[job.spec.inputs[0].cid] = b"something else"
    assert (await pi.run(job)).status is Ending.INPUT_BAD


async def test_run__function_has_another_digest__never_runs(pi: Pi) -> None:
    job = pi.job("open('/capsule/out/first/f','w').write('x')")
    function = job.spec.function
    spec = replace(job.spec, function=FunctionRef(function.cid, function.owner, b"\x01" * 32))
    outcome = await pi.run(replace(job, spec=spec))
    assert (outcome.status, outcome.results) == (Ending.FUNCTION_BAD, {})


async def test_run__data_capsule_as_function__never_runs(pi: Pi) -> None:
    archive = BytesIO()
    (pi.folder / "f.py").write_text("pass")
    pack(pi.folder / "f.py", archive)
    cid, key, digest = pi.seal(archive.getvalue(), Kind.DATA)
    job = pi.job("pass")
    spec = replace(job.spec, function=FunctionRef(cid, b"\x33" * 20, digest))
    assert (await pi.run(replace(job, spec=spec, keys={cid: key}))).status is Ending.FUNCTION_BAD


@pytest.mark.parametrize("keys", ["none", "function only"])
async def test_start__without_every_key__input_missing(pi: Pi, keys: str) -> None:
    job = pi.job("pass", {"one": b"ada"})
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    root = (await pi.ask(job)).root
    if keys == "function only":
        release = pi.release(job, job.spec.function.cid, session, root)
        answer = await pi.machine.call("release", release.to_body())
        assert answer == {"missing": [job.spec.inputs[0].cid]}
    await pi.machine.call("start", {})
    assert (await pi.until_done()).status is Ending.INPUT_MISSING

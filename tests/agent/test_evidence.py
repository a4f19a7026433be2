"""What Evidence states, at which moment a question is answered, and what it never says."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.formats.evidence import Evidence, EvidenceError
from agent.formats.measure import answer_ranges, measure_tree
from agent.formats.messages import AFTER, BEFORE, DURING, Question
from agent.formats.outcome import Transcript
from nodeclient.errors import MachineRefused
from nodeclient.machine.local import SIMULATED
from nodeclient.machine.measure import agent_folder, measure_agent
from tests.machine.support import NODE, Pi

KERNEL = Path("/proc/cmdline").read_text().strip()
SLEEP = "import time; time.sleep(60)"


async def refused(pi: Pi, question: Question) -> str:
    with pytest.raises(MachineRefused) as answer:
        await pi.machine.call("ask", question.to_body())
    return answer.value.code


async def test_ask__before__every_claim_is_there_and_true(pi: Pi) -> None:
    job = pi.job("pass")
    started = int(time.time() * 1000)
    session = await pi.machine.boot(4)
    await pi.prepare(job)
    evidence = await pi.ask(job)
    claims = evidence.claims()
    assert set(claims) == {
        *("chain", "boot", "session", "agent", "executable", "modules", "mounts", "sockets"),
        *("containers", "runtime", "function", "network", "inventory", "devices", "ranges"),
        *("cable", "counters", "events", "memory", "outcome", "vouch", "simulated"),
        *("not_checked", "scratch"),
    }
    assert claims["chain"] == job.context.to_body()
    assert evidence.session() == (session.hpke, session.signing)
    assert claims["agent"] == {"digest": measure_agent()} == {"digest": session.image}
    assert claims["runtime"] == {"image": pi.image_id, "present": True}
    assert claims["function"] == {"cid": job.spec.function.cid, "digest": None}
    assert claims["outcome"] is None
    boot, counters = claims["boot"], claims["counters"]
    assert isinstance(boot, dict)
    assert isinstance(counters, dict)
    assert (boot["image"], boot["count"]) == (session.image, 4)
    assert boot["command_line"] == KERNEL
    assert (counters["boot"], counters["evidence"]) == (4, 1)
    assert claims["scratch"] == {"kind": "tmpfs", "cipher": "", "key_bits": 0, "devices": []}
    assert isinstance(counters["time_ms"], int)
    assert started <= counters["time_ms"] <= int(time.time() * 1000)
    scratch = str(pi.folder / "scratch")
    mounts, programs = claims["mounts"], claims["executable"]
    assert isinstance(mounts, list)
    assert isinstance(programs, list)
    assert [scratch, "tmpfs"] in [each[:2] for each in mounts]
    assert any("dockerd" in each[0] and len(each[1]) == 32 for each in programs)


async def test_ask__embedded_machine__names_its_simulated_parts(pi: Pi) -> None:
    job = pi.job("pass")
    await pi.machine.boot(1)
    await pi.prepare(job)
    evidence = await pi.ask(job)
    assert evidence.claim("simulated") == list(SIMULATED)
    assert evidence.claim("vouch") == "PI-ONLY"
    not_checked = evidence.claim("not_checked")
    assert isinstance(not_checked, list)
    assert "kernel text" in not_checked


async def test_ask__ranges__are_what_the_asker_computes_from_its_own_copy(pi: Pi) -> None:
    job = pi.job("pass")
    await pi.machine.boot(1)
    await pi.prepare(job)
    nonce, other = secrets.token_bytes(32), secrets.token_bytes(32)
    ranges = (await pi.ask(job, nonce=nonce)).claim("ranges")
    assert ranges == answer_ranges(nonce, agent_folder())
    assert ranges != (await pi.ask(job, nonce=other)).claim("ranges")


async def test_boot__agent_was_changed__measured_otherwise_and_ranges_differ(pi: Pi) -> None:
    """Whoever changes one byte of the Agent that runs changes both measurement and answers."""
    await pi.machine.boot(1)
    copy = pi.folder / "boot" / "agent"
    assert measure_tree(copy) == measure_agent()
    changed = copy / "runner.py"
    changed.write_bytes(changed.read_bytes() + b"#")
    assert measure_tree(copy) != measure_agent()


async def test_ask__same_nonce_again__same_bytes(pi: Pi) -> None:
    """A second root for one attempt would make the Pi sign two headers: that is slashed."""
    job = pi.job("pass")
    await pi.machine.boot(1)
    await pi.prepare(job)
    nonce = secrets.token_bytes(32)
    assert await pi.ask(job, nonce=nonce) == await pi.ask(job, nonce=nonce)
    body = Question(nonce, replace(job.context, attempt=1))
    assert await refused(pi, body) == "nonce_used"


async def test_verify__evidence_for_an_old_nonce__refused(pi: Pi) -> None:
    job = pi.job("pass")
    await pi.machine.boot(1)
    await pi.prepare(job)
    evidence = await pi.ask(job)
    with pytest.raises(EvidenceError, match="another nonce"):
        Evidence.decode(evidence.encode()).verify(secrets.token_bytes(32))


async def test_ask__another_task_or_node__refused(pi: Pi) -> None:
    job = pi.job("pass")
    await pi.machine.boot(1)
    await pi.prepare(job)
    nonce = secrets.token_bytes(32)
    for context in (
        replace(job.context, task=8),
        replace(job.context, commitment=b"\x01" * 32),
        replace(job.context, node=b"\x02" * 20),
        replace(job.context, market=b"\x03" * 20),
        replace(job.context, chain_id=1),
    ):
        assert await refused(pi, Question(nonce, context)) == "not_prepared"


async def test_ask__phase_at_the_wrong_moment__refused(pi: Pi) -> None:
    job = pi.job(SLEEP)
    session = await pi.machine.boot(1)
    nonce = secrets.token_bytes(32)
    assert await refused(pi, Question(nonce, job.context)) == "not_prepared"
    await pi.prepare(job)
    assert await refused(pi, Question(nonce, job.at(DURING))) == "wrong_phase"
    assert await refused(pi, Question(nonce, job.at(AFTER))) == "wrong_phase"
    await pi.release_all(job, session, (await pi.ask(job)).root)
    assert await refused(pi, Question(nonce, job.at(BEFORE))) == "wrong_phase"


async def test_ask__after__shows_outcome_and_transcript_of_the_earlier_boot(pi: Pi) -> None:
    job = pi.job("raise SystemExit(5)")
    outcome = await pi.run(job)
    first = Transcript.open(transcript := await pi.clean(job))
    await pi.machine.boot(2)
    answers = tuple((NODE, nonce, root) for nonce, root in first.answers)
    nonce = secrets.token_bytes(32)
    question = Question(nonce, job.at(AFTER), answers, transcript)
    answer = await pi.machine.call("ask", question.to_body())
    assert isinstance(answer, bytes)
    evidence = Evidence.decode(answer)
    evidence.verify(nonce)
    assert evidence.claim("outcome") == outcome.to_body()
    assert evidence.claim("erasure") == transcript
    assert evidence.claim("during") == [list(each) for each in answers]
    assert evidence.session() != (first.hpke, first.signing)
    containers = evidence.claim("containers")
    assert isinstance(containers, dict)
    assert containers["own"] == []


async def test_ask__after_with_a_forged_or_foreign_transcript__refused(pi: Pi) -> None:
    job = pi.job("pass")
    await pi.run(job)
    transcript = await pi.clean(job)
    await pi.machine.boot(2)
    nonce = secrets.token_bytes(32)
    forged = transcript[:-1] + bytes([transcript[-1] ^ 1])
    question = Question(nonce, job.at(AFTER), (), forged)
    assert await refused(pi, question) == "bad_request"
    other = replace(job.at(AFTER), task=8)
    assert await refused(pi, Question(nonce, other, (), transcript)) == "bad_request"
    assert await refused(pi, Question(nonce, job.at(AFTER))) == "bad_request"

"""The claims of a measured boot, from a real TPM, and the calls that prove whose key it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from agent.boot import BootParameters
from agent.engine import Engine
from agent.evidence import TaskFacts, Witness
from agent.formats.bootimage import KernelMap
from agent.formats.evidence import Evidence, session_key_hash
from agent.formats.messages import BEFORE, DURING, Context, Question
from agent.formats.outcome import State
from agent.formats.quote import MAX_EVENT_LOG, Quote, qualifying_data
from agent.formats.ranges import Area, answer
from agent.formats.rpc import RpcError
from agent.kernel import KernelMemory
from agent.measured import NOT_CHECKED, Measured, Unmeasured, find_measured, read_bounded
from agent.scratch import make_scratch
from agent.serve import Service
from agent.session import Session
from agent.tpm import Tpm
from agent.tpm_wire import TpmError
from nodeclient.core.tpm.attest import parse_attest, verify_attest
from nodeclient.core.tpm.credential import make_credential
from nodeclient.core.tpm.public import parse_attestation_key, parse_endorsement_key
from tests.agent.core_file import core_file
from tests.agent.swtpm import provision, running

KERNEL, ROOT = secrets.token_bytes(50_000), secrets.token_bytes(90_000)
LOG = b"event log"
CONTEXT = Context(31337, b"\1" * 20, 7, b"\2" * 32, b"\3" * 20, BEFORE, 0)


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chip")
    provision(folder)
    return folder


@pytest.fixture
def tpm(chip: Path) -> Iterator[Tpm]:
    with running(chip) as transport:
        yield Tpm(transport)


def booted(folder: Path, tpm: Tpm | None) -> Measured:
    (folder / "root").write_bytes(ROOT)
    (folder / "tpm0").mkdir()
    (folder / "tpm0/binary_bios_measurements").write_bytes(LOG)
    kernel_map = KernelMap(0, ((0, 10_000), (20_000, 30_000)))
    memory = KernelMemory(kernel_map, core_file(folder / "kcore", KERNEL))
    return Measured(tpm, memory, folder / "root", folder)


def question(phase: int = BEFORE) -> Question:
    body = CONTEXT.to_body() | {"phase": phase}
    return Question(secrets.token_bytes(32), Context.from_body(body))


def parameters(folder: Path) -> BootParameters:
    return BootParameters(
        *(b"\4" * 32, b"\1" * 32, b"\2" * 32, "127.0.0.1", 1, b"\3" * 32, 1),
        *(folder / "scratch", Path("/var/run/docker.sock"), "measured", 1, 1 << 20, ()),
    )


def test_answer__measured_boot__quoted_for_this_question_and_session(
    tmp_path: Path, tpm: Tpm, engine: docker.DockerClient
) -> None:
    assert engine.ping()
    session, boot = Session(), parameters(tmp_path)
    engine_ = Engine(boot.docker, boot.machine)
    scratch = make_scratch(boot.scratch, sealed=False)
    witness = Witness(boot, session, engine_, scratch, booted(tmp_path, tpm))
    asked = question()
    evidence = Evidence.decode(witness.answer(asked, TaskFacts()).encode())
    evidence.verify(asked.nonce)
    claims = evidence.claims()
    quote = Quote.from_body(claims["quote"])
    said = parse_attest(quote.attest)
    assert verify_attest(parse_attestation_key(quote.ak).point, quote.attest, quote.signature)
    key_hash = session_key_hash(*evidence.session())
    assert said.qualifying == qualifying_data(asked.nonce, key_hash, asked.context)
    assert said.qualifying != qualifying_data(asked.nonce, key_hash, question(DURING).context)
    joined = KERNEL[:10_000] + KERNEL[20_000:]
    for name, area, content in (("kernel", Area.KERNEL, joined), ("root", Area.ROOT, ROOT)):
        wanted = answer(asked.nonce, area, len(content), lambda o, n, c=content: c[o : o + n])  # type: ignore[misc]
        assert claims[name] == wanted
    assert (claims["event_log"], claims["ima"]) == (LOG, b"")
    assert claims["vouch"] == "TPM-QUOTED"
    assert claims["not_checked"] == list(NOT_CHECKED["TPM-QUOTED"])
    assert claims["boot"]["image"] == boot.image  # type: ignore[index]
    engine_.close()


def test_claims__no_tpm__ranges_that_nobody_vouches_for(tmp_path: Path) -> None:
    measured = booted(tmp_path, None)
    assert measured.vouch == "PI-ONLY"
    assert set(measured.claims(question(), bytes(32))) == {"kernel", "root"}


def test_claims__event_log_beyond_its_bound__typed_error(tmp_path: Path, tpm: Tpm) -> None:
    measured = booted(tmp_path, tpm)
    log = tmp_path / "tpm0/binary_bios_measurements"
    log.write_bytes(bytes(MAX_EVENT_LOG))
    assert measured.claims(question(), bytes(32))["event_log"] == bytes(MAX_EVENT_LOG)
    log.write_bytes(bytes(MAX_EVENT_LOG + 1))
    with pytest.raises(Unmeasured, match="exceeds"):
        measured.claims(question(), bytes(32))


def test_claims__root_gone__typed_error(tmp_path: Path) -> None:
    measured = booted(tmp_path, None)
    (tmp_path / "root").unlink()
    with pytest.raises(Unmeasured, match="root cannot be read"):
        measured.claims(question(), bytes(32))


def test_read_bounded__endless_file__stops() -> None:
    with pytest.raises(Unmeasured, match="exceeds"):
        read_bounded(Path("/dev/zero"), 1 << 20)


def test_find_measured__on_somebody_s_host__nothing() -> None:
    assert find_measured() is None


async def test_activate__while_a_long_step_holds_the_agent__is_served(tpm: Tpm) -> None:
    unused: Any = object()
    served = Service(Session(), unused, unused, tpm)
    secret = secrets.token_bytes(32)
    async with served._lock, asyncio.timeout(60):
        body: Any = await served.handle("endorsement", None)
        ek, ak = parse_endorsement_key(body["ek"]), parse_attestation_key(body["ak"])
        challenge = make_credential(ek, ak.name, secret, secrets.token_bytes(48))
        assert await served.handle("activate", challenge.to_body()) == secret


async def test_activate__sealed_for_another_key__the_tpm_s_no(tpm: Tpm) -> None:
    unused: Any = object()
    served = Service(Session(), unused, unused, tpm)
    body: Any = await served.handle("endorsement", None)
    ek = parse_endorsement_key(body["ek"])
    challenge = make_credential(ek, b"\0\x0b" + bytes(32), bytes(32), secrets.token_bytes(48))
    with pytest.raises(RpcError) as refusal:
        await served.handle("activate", challenge.to_body())
    assert refusal.value.code == "tpm"


@pytest.mark.parametrize("method", ["endorsement", "activate"])
async def test_calls__no_tpm__say_so(method: str) -> None:
    unused: Any = object()
    served = Service(Session(), unused, unused, None)
    with pytest.raises(RpcError) as refusal:
        await served.handle(method, {"blob": bytes(70), "secret": bytes(258)})
    assert refusal.value.code == "no_tpm"


async def test_ask__the_tpm_fails__typed_and_nothing_is_answered() -> None:
    class Prepared:
        state, context, facts, keys = State.PREPARED, CONTEXT, TaskFacts(), None

    class Broken:
        def answer(self, asked: Question, facts: TaskFacts) -> Evidence:
            raise TpmError("the TPM refused command 0x158 with 0x101", 0x101)

    unused: Any = object()
    served = Service(Session(), Broken(), Prepared(), unused)  # type: ignore[arg-type]
    with pytest.raises(RpcError, match="0x101") as refusal:
        await served.handle("ask", question().to_body())
    assert refusal.value.code == "tpm"

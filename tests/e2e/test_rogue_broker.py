"""Owners who say no although a quorum said yes, and peers who want more than they may have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.formats import cbor
from agent.formats.messages import Ending, Outcome
from agent.formats.taskspec import FunctionRef, Input, Limits, Receiver, TaskSpec
from nodeclient.chain import market
from nodeclient.chain.presets import PRESETS
from nodeclient.errors import Reverted, SealrunError
from nodeclient.identity.folder import open_folder
from nodeclient.p2p.errors import PeerDeclined
from nodeclient.p2p.messages import ConsentRequest
from scripts.embedded.job import PATIENT
from scripts.embedded.node import NodeProcess
from tests.e2e.books import address
from tests.e2e.rogues import Rogue
from tests.e2e.rogues.peer import ask
from tests.e2e.stage import Stage, rows, wait

NO_ACCEPT = 4  # cause of TaskFailed
# Blocks after which an Executor starts without the missing keys.
PATIENCE = PRESETS["anvil"].classes[PATIENT][2] // 3 + 5


def run_without_keys(stage: Stage, task: int, owners: Sequence[NodeProcess]) -> None:
    """Wait until the owners said no, let the patience pass, and wait for the settlement."""
    stage.driver.until(task, "ADMITTED")
    for owner in owners:
        wait(lambda node=owner: stage.driver.noted(node, task, "no key is released"))  # type: ignore[misc]
    wait(lambda: stage.driver.noted(stage.requester, task, "key released"))  # its own function's
    stage.network.chain.mine(PATIENCE)
    stage.driver.until(task, "SETTLED")


def assert_no_key_left(stage: Stage, task: int, owner: NodeProcess) -> None:
    """Neither the owner's file nor the Executor's ever held sealed bytes of the owner's key."""
    role = stage.case(owner, task).broker
    assert role is not None
    assert role.keys == ()
    ordered = stage.ordered(owner, task)
    assert ordered["QueryMachine"] > 0
    assert ordered["SealKeys"] == ordered["SendKeys"] == 0
    executor = stage.executor(task)
    taken = stage.case(executor, task).executor
    assert taken is not None
    assert not set(taken.keys) & set(role.cids)
    assert stage.ordered(executor, task)["DeliverKey"] == 1, "the requester's own function's"


def assert_input_missing(stage: Stage, task: int) -> None:
    """What was attested, and paid, is a run that could not begin."""
    role = stage.case(stage.executor(task), task).executor
    assert role is not None
    outcome = Outcome.from_body(cbor.decode(role.outcome, 1 << 20))
    assert outcome.status is Ending.INPUT_MISSING
    assert outcome.results == {}


def test_broker__own_appraisal_fails_though_the_quorum_affirmed__releases_nothing(
    stage: Stage,
) -> None:
    b, c = stage.driver.b, stage.driver.c
    stage.permit(
        owner_b={"vouch": ["TPM-QUOTED"], "simulated": []}, owner_c={"least_reputation": 9_999}
    )
    try:
        task = stage.post()
        run_without_keys(stage, task, (b, c))
    finally:
        stage.permit()
    assert_no_key_left(stage, task, b)
    assert_no_key_left(stage, task, c)
    assert_input_missing(stage, task)
    assert stage.driver.noted(b, task, "no key is released: vouch")
    assert stage.driver.noted(b, task, "no key is released: simulated")
    assert stage.driver.noted(c, task, "no key is released: reputation")


def test_executor__shows_owners_another_session_key__gets_no_key(stage: Stage) -> None:
    """One owner is shown another session in the recorded Evidence, one in the answer to it."""
    task = stage.post(Rogue.OTHER_SESSION)
    run_without_keys(stage, task, (stage.driver.b, stage.driver.c))
    for owner in (stage.driver.b, stage.driver.c):
        assert_no_key_left(stage, task, owner)
    assert stage.driver.noted(stage.driver.b, task, "no key is released: header")
    assert stage.driver.noted(stage.driver.c, task, "no key is released: session")
    assert_input_missing(stage, task)


def build_spec(stage: Stage, salt: int) -> TaskSpec:
    """The stage's order as a TaskSpec."""
    wanted = stage.request
    function = wanted["function"]
    return TaskSpec(
        salt=salt.to_bytes(32, "big"),
        requester=address(stage.requester),
        number=salt,
        function=FunctionRef(
            function["cid"], address(stage.requester), bytes.fromhex(function["digest"][2:])
        ),
        command=tuple(wanted["command"]),
        runtime_image=bytes.fromhex(wanted["runtime_image"][2:]),
        inputs=tuple(
            Input(each["name"], each["cid"], bytes.fromhex(each["owner"][2:]))
            for each in wanted["inputs"]
        ),
        receivers=tuple(
            Receiver(
                each["name"],
                bytes.fromhex(each["node"][2:]),
                open_folder(stage.driver.by_account(each["node"]).folder).load_keys().hpke_public,
            )
            for each in wanted["receivers"]
        ),
        connections=(),
        devices=(),
        limits=Limits(**wanted["limits"]),
    )


def test_broker__asked_twice_at_once_under_a_policy_of_one_use__consents_once(
    stage: Stage,
) -> None:
    b = stage.driver.b
    cid = next(i["cid"] for i in stage.request["inputs"] if i["owner"] == b.account)
    ((used,),) = rows(b, "SELECT count(*) FROM uses WHERE policy = ?", cid)
    stage.permit(owner_b={"uses": used + 1})
    try:
        specs = [build_spec(stage, salt).encode() for salt in (1, 2, 3, 4)]
        questions = [("consent", ConsentRequest(spec, 3)) for spec in specs]
        answers = ask(stage.network, stage.requester, b, *questions)
        granted = [answer for answer in answers if isinstance(answer, bytes)]
        assert len(granted) == 1, answers
        with pytest.raises(SealrunError, match="uses"):
            stage.post()
    finally:
        stage.permit()
    assert stage.noted(b, f"consent refused to {stage.requester.account.lower()}: uses")


def test_broker__asked_for_a_function_that_its_policy_does_not_name__refuses_and_logs(
    stage: Stage, make_function: Callable[[str], Path]
) -> None:
    sealed = stage.requester.seal(make_function("print('all of it')"), "function")
    digest = sealed.digest.hex()
    other = {**stage.request["function"], "cid": sealed.cid, "digest": f"0x{digest}"}
    with pytest.raises(SealrunError, match="function-not-permitted"):
        stage.post(function=other)
    with pytest.raises(SealrunError, match="command-not-permitted"):
        stage.post(command=["/bin/cp", "/capsule/in/list-b", "/capsule/out/owner-c/"])
    for owner in (stage.driver.b, stage.driver.c):
        assert stage.noted(owner, f"function {digest} is not on the list")
        assert stage.noted(owner, "started by another command")


def test_broker__asked_by_somebody_in_the_requesters_name__refuses(stage: Stage) -> None:
    spec = build_spec(stage, 9).encode()
    worker = stage.workers[0]
    (answer,) = ask(stage.network, worker, stage.driver.b, ("consent", ConsentRequest(spec, 3)))
    assert isinstance(answer, PeerDeclined)
    assert stage.noted(stage.driver.b, f"consent refused to {worker.account.lower()}")


def test_requester__posts_under_one_number_twice__second_reverts(stage: Stage) -> None:
    """Straight to the contract: the rogue's transaction, past its own daemon."""
    books = stage.books
    tasks = len(books.logs("TaskMarket", "TaskPosted"))
    what = b"\x07" * 32, 2**40  # a number that its daemon does not come to
    fee = stage.network.deployment.parameters["posting_fee"]
    terms = {"committee_size": 3, "class_id": 2, "executor_fee": 0, "member_fee": 0}
    books.send(stage.requester, market.post("once", *what, **terms, posting_fee=fee))
    with pytest.raises(Reverted) as second:
        books.send(stage.requester, market.post("again", *what, **terms, posting_fee=fee))
    assert second.value.reason == "market: number already used"
    assert len(books.logs("TaskMarket", "TaskPosted")) == tasks + 1


def test_requester__posts_without_the_owners__nobody_is_briefed_and_no_key_leaves(
    stage: Stage,
) -> None:
    """The consents are there, signed by the requester itself."""
    task = stage.post(Rogue.NO_CONSENT)
    stage.driver.until(task, "DRAWN")
    executor, members = stage.executor(task), stage.members(task)
    for node in (executor, *members):
        wait(lambda node=node: stage.noted(node, "not signed by the owner's root"))  # type: ignore[misc]
    spec = stage.case(stage.requester, task).requester
    assert spec is not None
    (late,) = ask(
        stage.network, stage.requester, stage.driver.b, ("consent", ConsentRequest(spec.spec, 3))
    )
    assert isinstance(late, PeerDeclined), "consent is asked for before posting"
    assert stage.noted(stage.driver.b, "the task is posted already")
    stage.let_deadline_pass(task)
    fate = stage.books.fate(task)
    assert (fate.cause, fate.slashed) == (NO_ACCEPT, {})
    running = stage.case(executor, task).executor
    assert running is not None
    assert running.spec == b""
    for node in members:
        seat = stage.case(node, task).member
        assert seat is not None
        assert (seat.spec, seat.nonces) == (b"", ())
    for owner in (stage.driver.b, stage.driver.c):
        assert stage.case(owner, task).broker is None

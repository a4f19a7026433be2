"""Capsules and task files that are not what they must be: refused before anything is posted where
that can be known, and a clear outcome on chain and at the command line where it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.formats.capsule import Kind, inspect
from agent.formats.cid import cid_of
from nodeclient import cli
from nodeclient.capsules.keys import keep_key
from nodeclient.chain.presets import PRESETS
from nodeclient.identity.folder import open_folder
from scripts.embedded.chain import ROOT
from scripts.embedded.job import PATIENT, Job, order, policy
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e import quick
from tests.e2e.books import Books
from tests.e2e.conftest import Driver
from tests.e2e.supervise import restart, until

FUNCTION = ROOT / "examples" / "common-names" / "function"
NOBODY = "0x00000000000000000000000000000000000000Aa"

Change = Callable[[Driver, dict[str, Any]], None]


def block_file(node: NodeProcess, cid: str) -> Path:
    return node.folder / "blocks" / cid[-3:-1] / cid


def chunk_of(node: NodeProcess, cid: str) -> str:
    return inspect(cid, open_folder(node.folder).store.get).chunks[0]


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def header_flipped(driver: Driver, asked: dict[str, Any]) -> None:
    flip(block_file(driver.b, asked["inputs"][0]["cid"]))


def header_truncated(driver: Driver, asked: dict[str, Any]) -> None:
    truncate(block_file(driver.b, asked["inputs"][0]["cid"]))


def chunk_gone(driver: Driver, asked: dict[str, Any]) -> None:
    block_file(driver.b, chunk_of(driver.b, asked["inputs"][0]["cid"])).unlink()


def header_too_large(driver: Driver, asked: dict[str, Any]) -> None:
    """A block under its right CID, with a key and a policy: only its size is wrong."""
    block = bytes((1 << 20) + 1)
    cid = cid_of(block)
    path = block_file(driver.b, cid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(block)
    name_instead(driver, asked, cid)


def no_capsule(driver: Driver, asked: dict[str, Any]) -> None:
    """A sound block that is no header."""
    block = b"no capsule at all"
    open_folder(driver.b.folder).store.put(cid_of(block), block)
    name_instead(driver, asked, cid_of(block))


def name_instead(driver: Driver, asked: dict[str, Any], cid: str) -> None:
    old = asked["inputs"][0]["cid"]
    opened = open_folder(driver.b.folder)
    keep_key(opened.root, opened.vault, cid, bytes(32))
    policies = driver.b.folder / "policies"
    (policies / f"{cid}.json").write_bytes((policies / f"{old}.json").read_bytes())
    asked["inputs"][0]["cid"] = cid


def key_gone(driver: Driver, asked: dict[str, Any]) -> None:
    config = open_folder(driver.b.folder).config
    (config.path(config.store.keys) / f"{asked['inputs'][0]['cid']}.key").unlink()


def wrong_cid(driver: Driver, asked: dict[str, Any]) -> None:
    asked["inputs"][0]["cid"] = cid_of(b"nobody sealed this")


def malformed_cid(driver: Driver, asked: dict[str, Any]) -> None:
    asked["inputs"][0]["cid"] = asked["inputs"][0]["cid"][:-1] + "1"


def wrong_owner(driver: Driver, asked: dict[str, Any]) -> None:
    asked["inputs"][0]["owner"] = driver.c.account


def unknown_owner(driver: Driver, asked: dict[str, Any]) -> None:
    asked["inputs"][0]["owner"] = NOBODY


def receiver_without_key(driver: Driver, asked: dict[str, Any]) -> None:
    asked["receivers"][0]["node"] = NOBODY


def wrong_digest(driver: Driver, asked: dict[str, Any]) -> None:
    asked["function"]["digest"] = "0x" + "ab" * 32


def data_as_function(driver: Driver, asked: dict[str, Any]) -> None:
    made = quick.seal(driver.requester, FUNCTION / "main.py", Kind.DATA)
    asked["function"] |= {"cid": made.cid, "digest": "0x" + made.digest.hex()}


REFUSED: dict[Change, str] = {
    header_flipped: "capsule-unusable",
    header_truncated: "capsule-unusable",
    chunk_gone: "1 of 1 chunks are not here",
    header_too_large: "capsule-unusable",
    no_capsule: "capsule-unusable",
    key_gone: "not on this node",
    wrong_cid: "no-policy",
    malformed_cid: "inputs.0.cid",
    wrong_owner: "no-policy",
    unknown_owner: "is no registered node",
    receiver_without_key: "is no registered node",
    wrong_digest: "its digest is not the one",
    data_as_function: "is DATA, not a function",
}


def write_task(path: Path, asked: dict[str, Any]) -> Path:
    """A task file with the content of an order."""
    function = asked["function"]
    lines = [
        f"deadlines = {asked['class_id']}",
        "[function]",
        *(f"{key} = {json.dumps(function[key])}" for key in ("cid", "owner", "digest")),
        f"command = {json.dumps(asked['command'])}",
    ]
    for table in ("inputs", "receivers"):
        for entry in asked[table]:
            lines += [f"[[{table}]]", *(f"{k} = {json.dumps(v)}" for k, v in entry.items())]
    fees = asked["fees"]
    lines += ["[fees]", f'executor = "{fees["executor_wei"]} wei"']
    lines += [f'member = "{fees["member_wei"]} wei"']
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_submit__part_that_cannot_serve__is_bad_input_and_posts_nothing(
    driver: Driver,
    lists: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
) -> None:
    asked = quick.request(driver, FUNCTION, lists)
    change(driver, asked)
    file = write_task(tmp_path / "task.toml", asked)
    before = Books(driver.network).balance(driver.requester)
    code = cli.run(["task", "submit", str(file), "--node", str(driver.requester.folder)])
    # The odds come first, once the file itself is sound; then one line that refuses.
    *odds, said = capsys.readouterr().err.splitlines()
    assert (code, len(odds) <= 1) == (2, True), said
    assert all(line.startswith("odds") for line in odds), odds
    assert REFUSED[change] in said
    assert "; " in said
    assert "Traceback" not in said
    assert Books(driver.network).balance(driver.requester) == before


@contextmanager
def instead(node: NodeProcess, module: str) -> Iterator[None]:
    """A node runs another daemon for a while."""
    try:
        restart([node], ("-m", module))
        yield
    finally:
        restart([node])


@pytest.fixture(scope="module")
def odd(network: Network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Three orders that run beside each other, with what is odd about B's input done to them."""
    driver, folder = Driver(network), tmp_path_factory.mktemp("odd")
    names, empty = folder / "names.txt", folder / "empty.txt"
    names.write_text("Ada\n")
    empty.write_bytes(b"")
    orders: dict[str, dict[str, Any]] = {}
    for what in ("bit-flipped", "truncated", "empty"):
        data = (empty if what == "empty" else names, names)
        asked = orders[what] = quick.request(driver, FUNCTION, data)
        cid = asked["inputs"][0]["cid"]
        if what != "empty":
            damage = flip if what == "bit-flipped" else truncate
            damage(block_file(driver.b, chunk_of(driver.b, cid)))
        asked["task"] = order(driver.requester, asked)
    for asked in orders.values():
        driver.until(asked["task"], "SETTLED")
    return orders


@pytest.mark.parametrize("what", ["bit-flipped", "truncated"])
def test_chunk_damaged_in_the_owners_store__run_does_not_begin_and_says_so(
    driver: Driver,
    odd: dict[str, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    task, cid = odd[what]["task"], odd[what]["inputs"][0]["cid"]
    for node in (driver.requester, driver.b, driver.c):
        assert quick.outcome(driver, task, node)["status"] == "INPUT_MISSING"
    target, node_folder = tmp_path / "opened.txt", str(driver.b.folder)
    assert cli.run(["capsule", "open", cid, str(target), "--node", node_folder]) == 1
    assert "damaged; " in capsys.readouterr().err
    assert not target.exists()


def test_empty_input__is_an_input_like_any_other(
    driver: Driver, odd: dict[str, dict[str, Any]]
) -> None:
    task = odd["empty"]["task"]
    told = quick.outcome(driver, task, driver.b)
    assert (told["status"], told["exit_code"]) == ("RAN", 0)
    assert (driver.results(task, driver.b) / "common.txt").read_bytes() == b""


def test_owner_that_does_not_look__garbage_for_a_header__ends_as_bad_input_of_the_run(
    driver: Driver, lists: tuple[Path, Path]
) -> None:
    """Whatever a careless owner lets through: the Agent refuses it, and the slot is paid."""
    with instead(driver.b, "tests.e2e.rogues.careless"):
        asked = quick.request(driver, FUNCTION, lists)
        no_capsule(driver, asked)
        task = order(driver.requester, asked)
        driver.until(task, "SETTLED")
        assert quick.outcome(driver, task, driver.c)["status"] == "INPUT_BAD"
        assert driver.c.get(f"/v1/tasks/{task}/results")["results"] == []


def test_taskspec_that_does_not_open_its_commitment__fails_and_is_refunded(
    driver: Driver, lists: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    books = Books(driver.network)
    with instead(driver.requester, "tests.e2e.rogues.brief"):
        asked = quick.request(driver, FUNCTION, lists)
        owed, burned = books.owed(driver.requester), books.burned()
        deposits = books.deposits()
        task = order(driver.requester, asked)
        view = driver.until(task, "DRAWN")
        told = [driver.by_account(who) for who in (view["executor"], *view["committee"])]
        until(lambda: all("refused brief" in node.log() for node in told), "all refuse the brief")
        driver.network.chain.mine(PRESETS["anvil"].classes[PATIENT][0])
        view = driver.until(task, "FAILED")
        node = str(driver.requester.folder)
        assert cli.run(["task", "watch", str(task), "--node", node]) == 1
        said = capsys.readouterr().err
    assert view["why"] == "the executor did not accept in time"
    assert f"task {task} ended FAILED (the executor did not accept in time)" in said
    assert "withdraw" in said
    assert books.owed(driver.requester) - owed == 10**16 + 3 * 10**15
    assert books.burned() > burned
    assert books.deposits() == deposits


def test_policy_of_another_function__refuses_this_one(
    driver: Driver, lists: tuple[Path, Path], make_function: Callable[[str], Path]
) -> None:
    """Consent is for the function that the owner looked at."""
    asked = quick.request(driver, FUNCTION, lists)
    other = quick.seal(driver.requester, make_function("print()"), Kind.FUNCTION)
    rules = policy(driver.network, other, (driver.b, driver.c), Job(FUNCTION, lists))
    quick.permit(driver.b, asked["inputs"][0]["cid"], rules)
    with pytest.raises(Exception, match="function-not-permitted"):
        order(driver.requester, asked)

"""`sealrun task` against a control server that answers as a daemon does."""

import json
import threading
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest

from nodeclient.core.odds import TYPICAL, Assumptions
from nodeclient.core.quote import in_words, quote
from tests.cli.conftest import Daemon, Sealrun

TASK = """
deadlines = 1
[function]
cid = "bafkrei{cid}"
owner = "0x{owner}"
digest = "sha256:{digest}"
command = ["python3", "main.py"]
[[inputs]]
name = "b"
cid = "bafkrei{cid}"
owner = "0x{owner}"
[[receivers]]
name = "b"
node = "0x{owner}"
[fees]
executor = "0.01 ether"
member = "2 gwei"
[limits]
memory = "1.5 GiB"
cpus = 0.5
""".format(cid="a" * 52, owner="ab" * 20, digest="cd" * 32)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nodes by tier as the registry would answer; tests may change the list."""
    tiers = [20, 5]
    for module in ("quote", "task"):
        monkeypatch.setattr(f"nodeclient.commands.{module}.tiers_now", lambda _: tuple(tiers))
    return tiers


def test_submit__task_file__sends_exact_numbers(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "task.toml").write_text(TASK)
    daemon.answer("/v1/tasks", {"task": 7})
    outcome = sealrun("task", "submit", tmp_path / "task.toml", "--node", tmp_path, "--json")
    assert outcome.json == {"task": 7}
    sent = daemon.received[0]
    assert sent["fees"] == {"executor_wei": str(10**16), "member_wei": str(2 * 10**9)}
    assert sent["limits"] == {
        "seconds": 60,
        "memory_bytes": 3 << 29,
        "scratch_bytes": 256 << 20,
        "pids": 64,
        "cpu_milli": 500,
    }
    assert sent["function"]["digest"] == "0x" + "cd" * 32
    assert (sent["committee_size"], sent["class_id"]) == (3, 1)


def test_submit__before_anything_is_sent__says_the_odds(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "task.toml").write_text(TASK)
    daemon.answer("/v1/tasks", {"error": "no consent", "next_step": "ask"}, status=409)
    outcome = sealrun("task", "submit", tmp_path / "task.toml", "--node", tmp_path)
    odds, refusal = outcome.err.splitlines()
    made = quote([20, 5], 3)
    assert made.odds is not None
    assert f"a false result {in_words(made.odds.task_captured)}" in odds
    assert f"a stall {in_words(made.odds.task_stalls)}" in odds
    assert "no consent" in refusal


def test_submit__network_too_small__is_said(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun, network: list[int]
) -> None:
    network[:] = [2, 1]
    (tmp_path / "task.toml").write_text(TASK)
    daemon.answer("/v1/tasks", {"task": 7})
    outcome = sealrun("task", "submit", tmp_path / "task.toml", "--node", tmp_path, "--json")
    assert "only 3 nodes can be drawn and 4 are needed" in outcome.err


def test_quote__table__every_chance_in_words(sealrun: Sealrun) -> None:
    outcome = sealrun("task", "quote", "--dishonest", "25%", "--committee", "7")
    made = quote([20, 5], 7, Assumptions(Fraction(1, 4), TYPICAL.lazy, TYPICAL.offline))
    assert made.odds is not None
    for chance in asdict(made.odds).values():
        assert in_words(chance) in outcome.out
    assert "20 nodes" not in outcome.out
    assert "25 nodes, weight 30" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dishonest", "much"], "write 0.2, 20% or 1/5"),
        (["--dishonest", "1/0"], "write 0.2, 20% or 1/5"),
        (["--dishonest", "1e-999999999"], "write 0.2, 20% or 1/5"),
        (["--dishonest", "0.9", "--lazy", "0.2"], "together at most 1"),
        (["--edge", "5"], "1 to 3"),
        (["--committee", "12"], "less than or equal to 11"),
        (["--dishonest", "0", "--lazy", "0", "--offline", "1"], "nobody is left"),
    ],
)
def test_quote__bad_input__one_line_and_exit_code_2(
    words: list[str], said: str, sealrun: Sealrun
) -> None:
    outcome = sealrun("task", "quote", *words)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert said in outcome.err


def test_submit__function_by_path__is_sealed_first(
    daemon: Daemon, node: Path, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.server_close()
    (tmp_path / "code").mkdir()
    (tmp_path / "code/main.py").write_text("print('hello')\n")
    body = TASK.partition("[function]")[2].partition("[[inputs]]")
    (tmp_path / "task.toml").write_text(
        '[function]\npath = "code"\ncommand = ["python3", "main.py"]\n[[inputs]]' + body[2]
    )
    server = Daemon(node / "control.sock")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.answer("/v1/tasks", {"task": 8})
    outcome = sealrun("task", "submit", tmp_path / "task.toml", "--node", node, "--json")
    server.shutdown()
    server.server_close()
    assert outcome.code == 0, outcome.err
    sent = server.received[0]["function"]
    inspected = sealrun("capsule", "inspect", sent["cid"], "--node", node, "--json").json
    assert (inspected["kind"], inspected["own"]) == ("function", True)
    account = json.loads((node / "registration.json").read_text())["account"]
    assert sent["owner"] == account


def test_watch__until_settled__exit_code_0(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    states = ("POSTED", "DRAWN", "DRAWN", "SETTLED")
    daemon.answer("/v1/tasks/7", *({"task": 7, "state": state} for state in states))
    outcome = sealrun("task", "watch", 7, "--node", tmp_path, "--json")
    assert outcome.code == 0
    assert outcome.json["state"] == "SETTLED"
    assert outcome.err.splitlines() == [f"task 7: {s}" for s in ("POSTED", "DRAWN", "SETTLED")]


def test_watch__function_failed__is_said_beside_the_state(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    ended = {"status": "RAN", "exit_code": 3, "errors": ["UNNAMED_RECEIVER"]}
    settled = {"task": 7, "state": "SETTLED", "roles": {"requester": "done"}}
    daemon.answer("/v1/tasks/7", {**settled, "outcome": None}, {**settled, "outcome": ended})
    outcome = sealrun("task", "watch", 7, "--node", tmp_path, "--json")
    assert outcome.code == 0
    assert outcome.json["outcome"] == ended
    assert "ended RAN with exit code 3, UNNAMED_RECEIVER" in outcome.err


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED"])
def test_watch__not_settled__exit_code_1(
    state: str, daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/tasks/7", {"task": 7, "state": state, "cause": "REFUSED"})
    outcome = sealrun("task", "watch", 7, "--node", tmp_path, "--json")
    assert outcome.code == 1
    assert f"ended {state} (REFUSED)" in outcome.err


def test_watch__time_is_up__says_how_to_go_on(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/tasks/7", {"task": 7, "state": "DRAWN"})
    outcome = sealrun("task", "watch", 7, "--node", tmp_path, "--seconds", "0.1")
    assert outcome.code == 1
    assert "sealrun task watch 7" in outcome.err


def test_submit__daemon_refuses__shows_its_next_step(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "task.toml").write_text(TASK)
    daemon.answer(
        "/v1/tasks", {"error": "no consent", "next_step": "ask the owner of b"}, status=409
    )
    outcome = sealrun("task", "submit", tmp_path / "task.toml", "--node", tmp_path)
    assert outcome.code == 2
    assert outcome.err.splitlines()[1:] == ["sealrun: no consent; ask the owner of b"]


def test_results__out__copies_what_this_node_received(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "opened").mkdir()
    (tmp_path / "opened/common.txt").write_text("Ada\n")
    daemon.answer(
        "/v1/tasks/7/results", {"results": [{"receiver": "b", "path": str(tmp_path / "opened")}]}
    )
    outcome = sealrun("task", "results", 7, "--node", tmp_path, "--out", tmp_path / "mine")
    assert outcome.code == 0
    assert (tmp_path / "mine/b/common.txt").read_text() == "Ada\n"


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"a": '])
def test_answer__no_json__is_one_line(
    body: bytes, daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answers["/v1/health"] = [(200, body)]
    outcome = sealrun("node", "status", "--node", tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)


def test_answer__too_large__refused(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.control.client.MAX_ANSWER", 100)
    daemon.answer("/v1/health", {"long": "x" * 200})
    assert sealrun("node", "status", "--node", tmp_path).code == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('executor = "0.01 ether"', "executor = 5", "fees.executor"),
        ('member = "2 gwei"', 'member = "0.5 wei"', "fees.member"),
        ("deadlines = 1", "deadlines = 4", "deadlines"),
        ("deadlines = 1", "committee = 2", "committee"),
        ("deadlines = 1", "colour = 1", "colour"),
        ("cpus = 0.5", "cpus = 0", "limits.cpus"),
        ('name = "b"', 'name = ".."', "name"),
        ('name = "b"', 'name = "B/../c"', "name"),
        ("digest = ", "# digest = ", "function"),
        ("digest = ", 'path = "x"\ndigest = ', "function"),
        ("[limits]", "[limits", "TOML"),
    ],
)
def test_task_file__fault__is_named(
    old: str, new: str, said: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    assert old in TASK
    (tmp_path / "task.toml").write_text(TASK.replace(old, new, 1))
    outcome = sealrun("task", "submit", tmp_path / "task.toml", "--node", tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert said in outcome.err

"""``sealrun task``: post a task, follow it, fetch its results."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from eth_utils.address import to_checksum_address

from agent.formats.capsule import Kind
from nodeclient.commands.capsule import seal_with_progress
from nodeclient.commands.output import Json, NodeFolder, say, show, working
from nodeclient.commands.quote import quote, tiers_now
from nodeclient.control.client import ControlClient
from nodeclient.core.quote import quote as build_quote
from nodeclient.errors import BadInput, TaskNotSettled
from nodeclient.identity.folder import open_folder
from nodeclient.taskfile import Function, TaskFile, load_task_file

app = typer.Typer(
    help="Quote and post tasks, follow them, fetch results.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("quote")(quote)
ID = typer.Argument(min=1, help="Number of the task.")
NODE = Path("node")
POLL = 0.5  # seconds: a quarter of the fastest chain's block time
OUTCOME_SECONDS = 15.0  # what members take to say how the run ended; the task is over anyway
_OVER = ("SETTLED", "FAILED", "EXPIRED")


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A task file.")],
    node: NodeFolder = NODE,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the owners' consent, post the task on chain and send it to those drawn for it."""
    task = load_task_file(file)
    client = ControlClient(node)
    say(build_quote(tiers_now(node), task.committee).line())
    if task.function.path is not None:
        task = _with_sealed_function(task, file.parent / task.function.path, node)
    with working("asking consent and posting"):
        answer = client.post("/v1/tasks", task.to_request())
    if not watch_it:
        show(answer, as_json)
        return
    _follow(client, int(answer["task"]), 0.0, as_json)


@app.command()
def watch(
    task: Annotated[int, ID],
    node: NodeFolder = NODE,
    seconds: Annotated[float, typer.Option(min=0, help="Give up after; 0: never.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Follow a task until it is over. Exit code 0 only if it is SETTLED."""
    _follow(ControlClient(node), task, seconds, as_json)


@app.command()
def status(task: Annotated[int, ID], node: NodeFolder = NODE, as_json: Json = False) -> None:
    """Show a task as this node knows it: state, executor, committee, records."""
    show(ControlClient(node).get(f"/v1/tasks/{task}"), as_json)


@app.command()
def results(
    task: Annotated[int, ID],
    node: NodeFolder = NODE,
    out: Annotated[Path | None, typer.Option(help="New folder to copy them to.")] = None,
    as_json: Json = False,
) -> None:
    """Show, or copy, what a task gave to this node as a receiver."""
    answer = ControlClient(node).get(f"/v1/tasks/{task}/results")
    if out is not None:
        if out.exists():
            raise BadInput(f"{out} exists already", "choose a new folder")
        out.mkdir(parents=True)
        for result in answer["results"]:
            shutil.copytree(result["path"], out / result["receiver"], copy_function=shutil.copyfile)
        answer = {**answer, "copied_to": str(out)}
    show(answer, as_json)


def _with_sealed_function(task: TaskFile, path: Path, node: Path) -> TaskFile:
    """The same task with its function sealed into the node's store."""
    if not path.exists():
        raise BadInput(f"{path} does not exist", "correct function.path in the task file")
    opened = open_folder(node)
    sealed = seal_with_progress(opened, path, Kind.FUNCTION)
    function = Function(
        cid=sealed.cid,
        owner=to_checksum_address(opened.load_keys().address),
        digest=f"0x{sealed.digest.hex()}",
        command=task.function.command,
    )
    return task.model_copy(update={"function": function})


def _follow(client: ControlClient, task: int, seconds: float, as_json: bool) -> None:
    """Print each new state on stderr until the task is over; then show it all."""
    deadline = time.monotonic() + seconds if seconds else None
    seen: str | None = None
    while True:
        answer: dict[str, Any] = client.get(f"/v1/tasks/{task}")
        state = str(answer["state"])
        if state != seen:
            say(f"task {task}: {state}")
            seen = state
        if state in _OVER:
            break
        if deadline is not None and time.monotonic() > deadline:
            raise TaskNotSettled(
                f"task {task} is still {state} after {seconds:g} s",
                f"go on with: sealrun task watch {task}",
            )
        time.sleep(POLL)
    if seen == "SETTLED":
        answer = _with_outcome(client, task, answer)
    show(answer, as_json)
    if seen != "SETTLED":
        cause = answer.get("why") or answer.get("cause") or "nobody claimed it in time"
        raise TaskNotSettled(
            f"task {task} ended {seen} ({cause})", "your fees came back: withdraw them"
        )


def _with_outcome(client: ControlClient, task: int, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer once the Committee has said how the run ended; SETTLED only says it was paid."""
    deadline = time.monotonic() + OUTCOME_SECONDS
    while (
        answer.get("outcome") is None
        and {"requester", "receiver"} & set(answer.get("roles", ()))
        and time.monotonic() < deadline
    ):
        time.sleep(POLL)
        answer = client.get(f"/v1/tasks/{task}")
    if outcome := answer.get("outcome"):
        say(f"task {task}: the function ended {ending(outcome)}")
    return answer


def ending(outcome: dict[str, Any]) -> str:
    """How a run ended, in a few words."""
    code = outcome["exit_code"]
    words = [outcome["status"] if code is None else f"{outcome['status']} with exit code {code}"]
    return ", ".join([*words, *outcome["errors"]])

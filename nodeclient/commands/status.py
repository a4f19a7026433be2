"""``sealrun node status``: how a node is, from its daemon, or without one from folder and chain."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nodeclient.commands.output import Json, NodeFolder, show
from nodeclient.control.client import ControlClient
from nodeclient.errors import DaemonSilent, DaemonUnreachable, SealrunError

app = typer.Typer(add_completion=False)
SECONDS = 10.0  # for a daemon that hangs; then the folder is looked at
STOPPED = "daemon-stopped"
ETHER = 10**18


class NodeUnhealthy(SealrunError):
    """The node has a fault; the text names the first."""


@app.command()
def status(
    node: NodeFolder = Path("node"),
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Only the exit code, and the first fault on stderr.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how the node is, and its tasks at hand. Exit code 1 if something is wrong with it."""
    answer = _ask(node)
    try:
        faults = [(str(f["text"]), str(f["next_step"])) for f in answer["faults"]]
        shown = rows(answer)
        is_healthy = answer["healthy"] is True
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DaemonUnreachable(
            f"the node's answer has no usable {error}",
            "start the daemon anew: it is another version",
        ) from error
    if not quiet:
        show(answer if as_json else shown, as_json)
    if faults or not is_healthy:
        text, step = faults[0] if faults else ("it does not say why", "see node.log")
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise NodeUnhealthy(f"the node is not healthy: {text}{more}", step)


def _ask(node: Path) -> Mapping[str, Any]:
    try:
        answer = ControlClient(node, SECONDS).get("/v1/health")
    except DaemonSilent as error:
        answer = _look(node, error)
    return answer if isinstance(answer, Mapping) else {}


def _look(node: Path, stopped: DaemonSilent) -> dict[str, Any]:
    """The same without a daemon, which is the first fault then."""
    import asyncio  # these imports cost a second: only where needed

    from nodeclient.health.offline import look
    from nodeclient.health.views import as_json

    reading = asyncio.run(look(node))
    answer = as_json(reading.picture, reading.remarks)
    why = {"code": STOPPED, "text": stopped.message, "next_step": stopped.next_step}
    others = [f for f in _list(answer["faults"]) if f["code"] != STOPPED]
    return {**answer, "faults": [why, *others]}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return list(value)


def rows(answer: Mapping[str, Any]) -> dict[str, object]:
    """What a person reads, by the name of the row. Raises KeyError and the like for what is not a
    picture."""
    return {
        "health": "healthy" if answer["healthy"] is True else "NOT HEALTHY",
        **_remarks("fault", answer["faults"]),
        **_remarks("notice", answer["notices"]),
        "gathered": _age(answer["at"]),
        "account": answer["account"],
        "root": _root(answer["root"]),
        "registry": _registry(answer["registry"], answer["chain"]),
        "chain": _chain(answer["chain"]),
        "images": [_image(each) for each in answer["images"]],
        "machine": _machine(answer["machine"], answer.get("noticed")),
        "services": _services(answer["services"]),
        "peers": _peers(answer["peers"]),
        "tasks": _tasks(answer["tasks"]),
        "at hand": [_case(each) for each in answer.get("cases", ())],
    }


def _remarks(name: str, remarks: list[Mapping[str, Any]]) -> dict[str, object]:
    lines = [f"{each['code']}: {each['text']}; {each['next_step']}" for each in remarks]
    return {name: lines} if lines else {}


def _age(at: int) -> str:
    return f"{max(0, int(time.time()) - at)} s ago"


def _root(root: Mapping[str, Any]) -> str:
    words = [
        root["class"] + (" (simulated)" if root["simulated"] else ""),
        "usable" if root["usable"] else "NOT USABLE",
        "TAMPERED WITH" if root["tampered"] else "not tampered with",
        root["detail"],
    ]
    return ", ".join(word for word in words if word)


def _registry(record: Mapping[str, Any] | None, chain: object) -> str:
    if record is None:
        return "unknown" if chain is None else "not registered"
    deposit, unit = int(record["deposit_wei"]) / ETHER, int(record["unit_wei"]) / ETHER
    return (
        f"{record['status']}, deposit {deposit:.6g} ether (unit {unit:.6g}),"
        f" reputation {record['reputation_bps'] / 100:.2f} %"
        + (", engaged" if record["engaged"] else "")
    )


def _chain(chain: Mapping[str, Any] | None) -> str:
    if chain is None:
        return "no answer"
    lag = "nothing applied yet" if chain["behind"] is None else f"{chain['behind']} behind"
    return f"block {chain['head']}, {chain['age_seconds']} s old, {lag}"


def _image(image: Mapping[str, Any]) -> str:
    ends = image["ends_at"]
    until = f" until {time.strftime('%Y-%m-%d', time.gmtime(ends))}" if ends else ""
    return f"{image['use']} {image['id']} {image['standing'] or 'not asked for'}{until}"


def _machine(machine: Mapping[str, Any], noticed: Mapping[str, Any] | None) -> list[str]:
    ban = (noticed or {}).get("banned")
    banned = f"BANNED: {ban['reason']}" if ban else "BANNED" if machine["banned"] else "not banned"
    counts = [f"{kind} {count}" for kind, count in machine["incidents"].items()]
    lines = [f"{banned}, incidents: {', '.join(counts) or 'none'}"]
    for each in (noticed or {}).get("incidents", ()):
        lines.append(f"task {each['task']} {each['kind']}: {each['text']}")
    return lines


def _services(guard: Mapping[str, Any] | None) -> str:
    if guard is None:
        return "not watched"
    if guard["watched"] is None:
        return "NEVER HELD against the chain"
    lag = "" if guard["behind"] is None else f", {guard['behind']} behind"
    return f"held against block {guard['watched']}{lag}"


def _peers(peers: Mapping[str, Any] | None) -> str:
    if peers is None:
        return "unknown"
    return f"{peers['known']} known, {peers['reachable']} of {peers['asked']} asked are reachable"


def _tasks(tasks: Mapping[str, Any] | None) -> str:
    if tasks is None:
        return "unknown"
    counts = [f"{state} {count}" for state, count in tasks["open"].items()]
    return f"{', '.join(counts) or 'none'} open, {tasks['known']} known"


def _case(case: Mapping[str, Any]) -> str:
    held = ", ".join(f"{role} {state}" for role, state in case["roles"].items())
    return f"task {case['task']} {case['state']} {held}".rstrip()

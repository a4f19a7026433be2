"""The picture for Prometheus: text exposition format 0.0.4, numbers only.

Names follow Prometheus' conventions: prefix, base units, ``_total`` for what only grows. Labels
take values from fixed sets, so that nobody can make the number of series grow, and no task, peer or
image is named. Deposits are in ether: as wei they would be larger than a float64 holds exactly.
What could not be asked has no sample, rather than a made-up one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nodeclient.core.health import ChainPart, Picture, Standing, Use
from nodeclient.core.incidents import Kind
from nodeclient.core.types import NodeStatus, TaskState
from nodeclient.core.verdict import Fault, Notice, Remark, behind, healthy

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ETHER = 10**18
Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: its samples share name, type and meaning. ``kind``: ``gauge`` or ``counter``."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def expose(picture: Picture, remarks: tuple[Remark, ...], more: Iterable[Metric] = ()) -> str:
    """The whole page. ``more``: families of other parts of the daemon."""
    return "".join(map(render, (*families(picture, remarks), *more)))


def render(metric: Metric) -> str:
    """The lines of one family; none without samples."""
    if not metric.samples:
        return ""
    name = f"sealrun_{metric.name}"
    lines = [f"# HELP {name} {_escaped(metric.help)}", f"# TYPE {name} {metric.kind}"]
    lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value, quoted=True)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str, quoted: bool = False) -> str:
    """Backslash and line feed, and in a label's value the quote, too."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped


def _number(value: float) -> str:
    """An integer without a point, anything else as the shortest text of that double."""
    return str(value) if isinstance(value, int) else repr(float(value))


def gauge(name: str, meaning: str, *samples: Sample) -> Metric:
    """A number that goes up and down."""
    return Metric(name, "gauge", meaning, samples)


def counter(name: str, meaning: str, *samples: Sample) -> Metric:
    """A number that only grows until the daemon ends."""
    return Metric(name, "counter", meaning, samples)


def one(value: float) -> Sample:
    """The only sample of a family."""
    return {}, value


def families(picture: Picture, remarks: tuple[Remark, ...]) -> Iterator[Metric]:
    """Every family of the picture."""
    yield from _verdict(picture, remarks)
    yield from _root(picture)
    yield from _chain(picture)
    yield from _holdings(picture)
    yield from _work(picture)


def _verdict(picture: Picture, remarks: tuple[Remark, ...]) -> Iterator[Metric]:
    told = {remark.code for remark in remarks}
    yield gauge("healthy", "1 while the node has no fault.", one(int(healthy(remarks))))
    faults = (({"code": code.value}, int(code in told)) for code in Fault)
    yield gauge("fault", "1 while the node has this fault.", *faults)
    notices = (({"code": code.value}, int(code in told)) for code in Notice)
    yield gauge("notice", "1 while the operator should look at this.", *notices)
    meaning = "When this was gathered, in seconds since 1970."
    yield gauge("picture_timestamp_seconds", meaning, one(picture.at))
    if picture.started_at is not None:
        meaning = "When the daemon started, in seconds since 1970."
        yield gauge("start_time_seconds", meaning, one(picture.started_at))


def _root(picture: Picture) -> Iterator[Metric]:
    root = picture.root
    labels = {"class": root.root_class.name, "simulated": str(root.simulated).lower()}
    yield gauge("root_info", "Class of the root of trust; always 1.", (labels, 1))
    usable, tampered = int(root.health.usable), int(root.health.tampered)
    yield gauge("root_usable", "1 while the root of trust answers as it should.", one(usable))
    yield gauge("root_tampered", "1 if the root says that it was opened.", one(tampered))


def _chain(picture: Picture) -> Iterator[Metric]:
    chain = picture.chain
    yield gauge("chain_up", "1 if the RPC endpoint answered.", one(int(chain is not None)))
    if chain is None:
        return
    yield gauge("chain_head_block", "Number of the newest block.", one(chain.head))
    meaning = "Time of the newest block, in seconds since 1970."
    yield gauge("chain_head_timestamp_seconds", meaning, one(chain.head_at))
    meaning = "How old the newest block was by this host's clock."
    yield gauge("chain_head_age_seconds", meaning, one(picture.at - chain.head_at))
    lag = behind(chain)
    if chain.applied is not None and lag is not None:
        yield gauge("chain_applied_block", "The last block applied.", one(chain.applied))
        yield gauge("chain_behind_blocks", "Blocks that are not applied yet.", one(lag))
    yield from _registry(chain)


def _registry(chain: ChainPart) -> Iterator[Metric]:
    record = chain.registry
    yield gauge("registered", "1 if the account is a node.", one(int(record is not None)))
    if record is None:
        return
    states = (({"status": each.name}, int(each is record.status)) for each in NodeStatus)
    yield gauge("node_status", "1 for the node's status in the registry.", *states)
    yield gauge("deposit_ether", "The node's deposit.", one(record.deposit / ETHER))
    meaning = "The least deposit of an active node."
    yield gauge("deposit_unit_ether", meaning, one(record.unit / ETHER))
    yield gauge("reputation_ratio", "Reputation, from 0 to 1.", one(record.reputation / 10_000))
    yield gauge("engaged", "1 while a task engages the deposit.", one(int(record.engaged)))


def _holdings(picture: Picture) -> Iterator[Metric]:
    judged = [image for image in picture.images if image.standing is not None]
    counts = (
        (
            {"use": use.value, "standing": standing.value},
            sum(image.use is use and image.standing is standing for image in judged),
        )
        for use in Use
        for standing in Standing
    )
    if picture.chain is not None:
        yield gauge("images", "Images on this node, by what the chain says of them.", *counts)
    ends = [i.ends_at for i in judged if i.use is not Use.RUNTIME and i.ends_at]
    if ends:
        meaning = "When the first approval of what runs here ends, in seconds since 1970."
        yield gauge("image_approval_ends_timestamp_seconds", meaning, one(min(ends)))
    machine = picture.machine
    yield gauge("machine_banned", "1 while the machine is banned.", one(int(machine.banned)))
    seen = dict(machine.incidents)
    kinds = (({"kind": kind.value}, seen.get(kind.value, 0)) for kind in Kind)
    meaning = "What was noticed of the machine, of the root, and services that were stopped."
    yield counter("incidents_total", meaning, *kinds)
    if picture.guard is not None:
        meaning = "The last block against which the node's services were held; 0: none yet."
        yield gauge("services_watched_block", meaning, one(picture.guard.watched))


def _work(picture: Picture) -> Iterator[Metric]:
    peers, tasks = picture.peers, picture.tasks
    if peers is not None:
        yield gauge("peers_known", "Other nodes with a proven contact.", one(peers.known))
        yield gauge("peers_asked", "Of those, asked for a sign of life.", one(peers.asked))
        yield gauge("peers_reachable", "Of those, that gave one.", one(peers.reachable))
        meaning = "Peers that run what the chain does not approve."
        yield gauge("peer_findings", meaning, one(peers.findings))
    if tasks is not None:
        states, ended = dict(tasks.open), dict(tasks.ended)
        unposted = ({"state": "UNPOSTED"}, states.get("UNPOSTED", 0))
        now = (({"state": each.name}, states.get(each.name, 0)) for each in TaskState)
        meaning = "Tasks in which this node still has something to do."
        yield gauge("tasks_open", meaning, unposted, *now)
        yield gauge("tasks_known", "All tasks that this node ever heard of.", one(tasks.known))
        over = (({"state": s.name}, ended.get(s.name, 0)) for s in TaskState if s.over)
        yield counter("tasks_ended_total", "Tasks with a part of this node, ended.", *over)

"""Shows a task as it happens: who was drawn, what was attested, released, received and paid."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess

OVER = ("SETTLED", "FAILED", "EXPIRED")
MEBI = 1 << 20


class Story:
    """Prints to the terminal; with ``as_json`` only the summary goes to standard output."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._json = as_json
        self._console = Console(stderr=as_json, highlight=False)
        self._began = time.monotonic()
        self._told: set[tuple[str, float, str]] = set()

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  {text}")

    def follow(
        self,
        network: Network,
        task: int,
        requester: NodeProcess,
        receivers: Sequence[NodeProcess],
        seconds: float,
    ) -> None:
        """Until the task is over and every receiver has its result.

        Raises:
            RuntimeError: not over within ``seconds``, or over without results.
        """
        end = time.monotonic() + seconds
        names = {node.account: node.name for node in network.nodes.values()}
        state = ""
        while True:
            view = requester.get(f"/v1/tasks/{task}")
            if view["state"] != state:
                state = view["state"]
                self.say(f"[bold]task {task}: {state}[/bold]{self._drawn(view, names, state)}")
            for node in network.nodes.values():
                self._tell(node, view["commitment"])
            if state in OVER and state != "SETTLED":
                raise RuntimeError(f"task {task} ended {state}; see the nodes' logs")
            if state == "SETTLED" and self._received(task, receivers):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"task {task} is still {state} after {seconds:.0f} s")
            time.sleep(0.3)

    def _drawn(self, view: Mapping[str, Any], names: Mapping[str, str], state: str) -> str:
        if state != "DRAWN":
            return ""
        members = ", ".join(names[member] for member in view["committee"])
        return f"  executor {names[view['executor']]}, committee {members}"

    def _tell(self, node: NodeProcess, commitment: str) -> None:
        """New lines of a node's journal about this task."""
        for line in reversed(node.get("/v1/journal")["journal"]):
            key = (node.name, line["at"], line["what"])
            if line["commitment"] == commitment and key not in self._told:
                self._told.add(key)
                self.say(f"[cyan]{node.name:>10}[/cyan]  {line['what']}")

    def _received(self, task: int, receivers: Sequence[NodeProcess]) -> bool:
        return all(node.get(f"/v1/tasks/{task}/results")["results"] for node in receivers)

    def paid(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Who was paid, in wei; each withdraws it with a transaction of its own."""
        for name, credit in after.items():
            if credit != before[name]:
                self.say(f"[green]{name:>10}[/green]  paid {credit - before[name]:,} wei")

    def memory(self, resident: Mapping[str, int]) -> None:
        """What each daemon occupies."""
        largest = max(resident, key=lambda name: resident[name])
        self.say(f"largest node process: {largest}, {resident[largest] / MEBI:.0f} MiB resident")

    def show(
        self, title: str, rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
    ) -> None:
        """A table for people; programs read the summary."""
        if not self._json:
            self._console.print(table(title, rows, columns))

    def close(self, summary: Mapping[str, Any], seconds: float, file: Path) -> None:
        """The figures of the independent script."""
        if self._json:
            Console(highlight=False).print_json(data=dict(summary))
            return
        self.show("results", summary["results"], ("lines", "sha256", "file"))
        self.show("reputation (bps)", summary["reputation"], ("before", "after"))
        self._console.print(pairs("gas", summary["gas"]))
        self._console.print(pairs("seconds", summary["seconds"]))
        self.say(
            f"task {summary['task']} {summary['state']}; summary in {file}; {seconds:.1f} s in all"
        )


def table(title: str, rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """A table with a row per name."""
    made = Table(title=title)
    for column in ("", *columns):
        made.add_column(column, overflow="fold")
    for name, row in rows.items():
        made.add_row(name, *(str(row.get(column, "")) for column in columns))
    return made


def pairs(title: str, values: Mapping[str, Any]) -> Table:
    """A table of two columns."""
    made = Table(title=title)
    made.add_column("")
    made.add_column("", justify="right")
    for name, value in values.items():
        made.add_row(name, f"{value:,}")
    return made

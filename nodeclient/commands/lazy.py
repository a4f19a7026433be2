"""Groups of commands that are imported when one of them is asked for.

All together cost more than a second of imports, and `sealrun node status` has to answer within one:
watchdogs call it every few seconds, on a Pi.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

COMMANDS: Mapping[str, str] = {
    name: f"nodeclient.commands.{name}"
    for name in ("demo", "node", "capsule", "task", "image", "lab")
}
STATUS = "nodeclient.commands.status"


def _load(name: str, module: str) -> Any:
    """What the module's ``app`` is on a command line, under a name."""
    found = get_command(import_module(module).app)
    found.name = name
    return found


class LazyCommands(TyperGroup):
    """`sealrun`: one module for each of its groups."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """Names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """Import the module of that name."""
        if cmd_name == "node":
            return get_command(node)
        return _load(cmd_name, COMMANDS[cmd_name]) if cmd_name in COMMANDS else None


class NodeCommands(TyperGroup):
    """`sealrun node`: its status by itself, the rest from ``commands.node``."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the help."""
        return [*_load("node", COMMANDS["node"]).list_commands(ctx), "status"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import what that command needs."""
        if cmd_name == "status":
            return _load("status", STATUS)
        return _load("node", COMMANDS["node"]).get_command(ctx, cmd_name)


node = typer.Typer(name="node", cls=NodeCommands, no_args_is_help=True, add_completion=False)


@node.callback()
def _node() -> None:
    """Make, enrol, run and question a node."""

"""``sealrun node``: make a node, enrol its machine, run it. How it is: ``commands.status``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from nodeclient.commands import motion
from nodeclient.commands.admission import admission, vouch
from nodeclient.commands.draw import pause, resume
from nodeclient.commands.enrol import enrol
from nodeclient.commands.output import Json, NodeFolder, say, show
from nodeclient.config.node import load_config
from nodeclient.config.root import RootKind
from nodeclient.core.case import Role
from nodeclient.identity.folder import create_folder
from nodeclient.machine.ban import Ban
from nodeclient.roots.choose import breach_of

app = typer.Typer(
    help="Make, enrol, run and question a node.", no_args_is_help=True, add_completion=False
)
app.command()(enrol)
app.command()(pause)
app.command()(resume)
app.command()(admission)
app.command()(vouch)
app.add_typer(motion.app, name="motion")
NEW = typer.Argument(help="Folder of the node.", file_okay=False)


@app.command()
def init(
    folder: Annotated[Path, NEW],
    deployment: Annotated[
        Path, typer.Option(help="File that says where the contracts are: deployments/….json.")
    ],
    endpoint: Annotated[str, typer.Option(help="host:port at which peers reach this node.")],
    rpc: Annotated[str, typer.Option(help="RPC URL of the chain.")] = "http://127.0.0.1:8545",
    role: Annotated[
        list[Role] | None, typer.Option(help="What it does; repeat. Default: everything.")
    ] = None,
    root: Annotated[RootKind, typer.Option(help="What holds its root key.")] = "software",
    library: Annotated[
        Path | None,
        typer.Option(help="With --root zymkey: Zymbit's library, where not in /usr/lib."),
    ] = None,
    tcti: Annotated[
        str | None,
        typer.Option(help="With --root tpm2: how it is reached, where not by /dev/tpmrm0."),
    ] = None,
    pcr: Annotated[
        list[int] | None,
        typer.Option(help="With --root tpm2: seal under this register, too; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a node's folder: configuration, root of trust, sealed keys, signed registration."""
    table: dict[str, str | list[int]] = {"kind": root}
    if tcti is not None:
        table["tcti"] = tcti
    if pcr:
        table["pcrs"] = sorted(set(pcr))
    if library is not None:
        table["library"] = str(library.resolve())
    made = create_folder(
        folder,
        rpc=rpc,
        deployment_file=deployment,
        endpoint=endpoint,
        roles=frozenset(role or Role),
        root=table,
    )
    show(made, as_json)
    if not as_json:
        say(f"next: ape run register_node --node {folder} --deposit 1 --account ALIAS")


@app.command()
def run(
    folder: Annotated[Path, NEW],
    as_json: Json = False,
) -> None:
    """Run the node's daemon until it is stopped (SIGTERM or Ctrl-C)."""
    config = load_config(folder)
    from nodeclient.daemon import run_daemon  # its imports cost a second: only where needed

    asyncio.run(run_daemon(config))
    show({"node": str(folder), "stopped": True}, as_json)


@app.command()
def guard(folder: Annotated[Path, NEW], as_json: Json = False) -> None:
    """Stop containers of the node's services whose image the chain does not approve (any more)."""
    config = load_config(folder)
    from nodeclient.upkeep.guarding import run_guard  # as above

    asyncio.run(run_guard(config, say))
    show({"node": str(folder), "stopped": True}, as_json)


@app.command()
def pardon(node: NodeFolder = Path("node"), as_json: Json = False) -> None:
    """Lift the ban of the node's machine, once you have looked at it."""
    config = load_config(node)
    lifted = Ban(config.folder / "machine").lift()
    reason = None if lifted is None else lifted.reason
    show({"node": str(node), "pardoned": lifted is not None, "reason": reason}, as_json)


@app.command()
def forget_breach(node: NodeFolder = Path("node"), as_json: Json = False) -> None:
    """Trust the node's root again once you have looked at the opened device. It tells for itself
    whether it still shows the breach."""
    lifted = breach_of(load_config(node)).lift()
    reason = None if lifted is None else lifted.reason
    show({"node": str(node), "forgotten": lifted is not None, "reason": reason}, as_json)

"""``sealrun task quote``: the odds of a Committee, from the registry as it stands now."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from nodeclient.chain import deployment
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from nodeclient.commands.output import Json, NodeFolder, show
from nodeclient.config.node import load_config
from nodeclient.core.odds import TYPICAL, Assumptions
from nodeclient.core.quote import quote as build_quote
from nodeclient.errors import BadInput

_LONGEST = 32  # characters of a share: no exponent makes a number of a billion digits of it


def parse_share(text: str | Fraction) -> Fraction:
    """A share from ``0.2``, ``20%`` or ``1/5``. Raises typer.BadParameter."""
    if isinstance(text, Fraction):
        return text
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        if len(number) > _LONGEST or "e" in number.lower():
            raise ValueError
        return Fraction(number) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is no share; write 0.2, 20% or 1/5") from None


def share(name: str, text: str) -> typer.models.OptionInfo:
    """An option that takes a share."""
    option: typer.models.OptionInfo = typer.Option(
        name, parser=parse_share, metavar="SHARE", help=text
    )
    return option


def quote(
    node: NodeFolder = Path("node"),
    committee: Annotated[int, typer.Option(min=3, max=11, help="Members.")] = 3,
    dishonest: Annotated[
        Fraction, share("--dishonest", "Weight of Deposit that is dishonest: 0.2, 20% or 1/5.")
    ] = TYPICAL.dishonest,
    lazy: Annotated[
        Fraction, share("--lazy", "Weight that affirms without looking.")
    ] = TYPICAL.lazy,
    offline: Annotated[Fraction, share("--offline", "Weight that is silent.")] = TYPICAL.offline,
    edge: Annotated[
        Fraction, share("--edge", "Reputation factor of the dishonest over the others, 1 to 3.")
    ] = TYPICAL.edge,
    as_json: Json = False,
) -> None:
    """Show the odds that a committee is captured or stalls, before anything is paid."""
    try:
        made = build_quote(tiers_now(node), committee, Assumptions(dishonest, lazy, offline, edge))
    except ValueError as error:
        text, _, step = str(error).removeprefix("odds: ").rpartition("; ")
        raise BadInput(text, step) from error
    show(made.to_json() if as_json else made.to_text(), as_json)


def tiers_now(folder: Path) -> tuple[int, ...]:
    """Drawable Nodes by tier, asked of the chain that a node's folder names; no daemon needed.

    Raises ConfigError, DeploymentInvalid, ChainUnavailable.
    """
    config = load_config(folder)
    deployed = deployment.load(config.path(config.chain.deployment))

    async def ask() -> tuple[int, ...]:
        rpc = Rpc(config.chain.rpc)
        try:
            await deployment.check_chain(deployed, rpc)
            return await NodeRegistry(rpc, deployed).tiers()
        finally:
            await rpc.close()

    return asyncio.run(ask())

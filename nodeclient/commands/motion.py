"""``sealrun node motion``: bar hardware or a maker, name or dismiss who vouches for Zymkeys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from nodeclient.chain.rpc import blob
from nodeclient.commands.admission import Chain, with_chain
from nodeclient.commands.output import Json, NodeFolder, say, show
from nodeclient.config.node import load_config
from nodeclient.control.client import ControlClient
from nodeclient.core.admission import (
    MAKER_ZYMBIT,
    AdmissionParameters,
    Motion,
    MotionKind,
    MotionState,
)
from nodeclient.core.types import Address
from nodeclient.errors import BadInput, ChainUnavailable
from nodeclient.identity.folder import NodeFolder as OpenedFolder
from nodeclient.identity.folder import open_folder
from nodeclient.upkeep.decisions import WORDS, load_decision, save_decision

app = typer.Typer(
    help="Bar broken hardware; say who vouches for Zymkeys.",
    no_args_is_help=True,
    add_completion=False,
)
SHOWN = 2  # times the longest life of a motion: how far back `list` looks
Chip = Annotated[str | None, typer.Option(help="Bar one piece of hardware: its id, 0x….")]
Maker = Annotated[
    str | None, typer.Option(help="Bar all hardware of a maker: its digest, 0x…, or zymbit.")
]
Name = Annotated[str | None, typer.Option(help="Let this account vouch for Zymkeys: 0x….")]
Dismiss = Annotated[str | None, typer.Option(help="Let this account vouch no more: 0x….")]
Subject = tuple[MotionKind, bytes]


class NoSuchSubject(BadInput):
    """A motion names exactly one thing."""


@app.command("open")
def open_(
    chip: Chip = None,
    maker: Maker = None,
    name: Name = None,
    dismiss: Dismiss = None,
    evidence: Annotated[
        str, typer.Option(help="keccak256 of what you show the other operators: 0x….")
    ] = f"0x{bytes(32).hex()}",
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """Move it: a fee is burned, this node votes yes, its daemon collects the others' votes."""
    kind, subject = subject_of(chip, maker, name, dismiss)
    digest = hexadecimal(evidence, 32)
    opened = ControlClient(node).post(
        "/v1/motions",
        {"kind": kind.name.lower(), "subject": subject.hex(), "evidence": digest.hex()},
    )
    save_decision(node, kind, subject, WORDS["yes"])
    show(opened, as_json)
    if not as_json:
        say("next: tell the other operators; how it stands: sealrun node motion list")


@app.command()
def decide(
    yes: Annotated[bool, typer.Option("--yes/--no", help="How this node votes.")],
    chip: Chip = None,
    maker: Maker = None,
    name: Name = None,
    dismiss: Dismiss = None,
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """Say how this node votes on such a motion, now or later; without a word it does not vote."""
    kind, subject = subject_of(chip, maker, name, dismiss)
    word = "yes" if yes else "no"
    load_config(node)  # a decision elsewhere than in a node's folder is none
    save_decision(node, kind, subject, WORDS[word])
    show({"kind": kind.name, "subject": f"0x{subject.hex()}", "vote": word}, as_json)


@app.command("list")
def list_(node: NodeFolder = Path("node"), as_json: Json = False) -> None:
    """Show the motions of late: how they stand, who decides, how this node would vote."""
    opened = open_folder(node)
    show(asyncio.run(with_chain(opened, lambda chain: motions_of(opened, chain))), as_json)


def subject_of(
    chip: str | None, maker: str | None, name: str | None, dismiss: str | None
) -> Subject:
    """What a motion is about: 32 bytes, as the ledger has it. Raises NoSuchSubject."""
    given = {
        MotionKind.BAR: chip,
        MotionKind.BAR_MAKER: maker,
        MotionKind.NAME: name,
        MotionKind.DISMISS: dismiss,
    }
    named = [(kind, text) for kind, text in given.items() if text is not None]
    if len(named) != 1:
        raise NoSuchSubject(
            "a motion is about one thing", "give one of --chip, --maker, --name, --dismiss"
        )
    ((kind, text),) = named
    if kind is MotionKind.BAR_MAKER and text == "zymbit":
        return kind, MAKER_ZYMBIT
    account = kind in (MotionKind.NAME, MotionKind.DISMISS)
    return kind, hexadecimal(text, 20 if account else 32).rjust(32, b"\0")


def hexadecimal(text: str, size: int) -> bytes:
    """Bytes of 0x… text. Raises NoSuchSubject."""
    try:
        return blob(text, size)
    except ChainUnavailable as error:
        raise NoSuchSubject(
            f"{text[:80]!r} is not {size} bytes", f"write 0x and {2 * size} digits"
        ) from error


async def motions_of(opened: OpenedFolder, chain: Chain) -> dict[str, Any]:
    """All of late, the newest last."""
    reader, ledger, _ = chain
    me = Address(opened.load_keys().address)
    terms = await ledger.parameters()
    head = (await reader.head()).number
    found = []
    for motion in await ledger.motions(head - SHOWN * terms.longest):
        members = await ledger.members(motion.round)
        decided = load_decision(opened.config.folder, motion.kind, motion.subject)
        word = next((word for word, meant in WORDS.items() if meant is decided), None)
        seats = terms.seats(motion, members or ())
        found.append(
            {
                "motion": motion.id,
                "kind": motion.kind.name,
                "subject": f"0x{motion.subject.hex()}",
                "proposer": f"0x{motion.proposer.hex()}",
                "state": state_of(await ledger.state(motion.id), motion, terms, head, members),
                "decided_until": terms.vote_end(motion),
                "this_node": "has a seat" if me in seats else "has none",
                "its_vote": "its own look" if motion.kind is MotionKind.ADMIT else word,
                "members": [f"0x{one.hex()}" for one in seats],
            }
        )
    return {"block": head, "motions": found}


def state_of(
    state: MotionState | None,
    motion: Motion,
    terms: AdmissionParameters,
    head: int,
    members: tuple[Address, ...] | None,
) -> str:
    """In one word; an open one may be VOID by now."""
    end = terms.draw_end(motion) if members is None else terms.vote_end(motion)
    if state is MotionState.OPEN and head >= end:
        return "VOID"
    return "UNKNOWN" if state is None else state.name

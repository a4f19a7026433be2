"""`sealrun task quote` from a real registry, and what a posting says before it is sent."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction
from pathlib import Path

import pytest

from nodeclient import cli
from nodeclient.chain import deployment as deployments
from nodeclient.chain.registry import NodeRegistry
from nodeclient.core.case import Role
from nodeclient.core.odds import Assumptions, odds_of
from nodeclient.identity.folder import create_folder
from tests.chain.conftest import World
from tests.chain.people import member

pytestmark = pytest.mark.chain


def node_folder(world: World, folder: Path) -> Path:
    """A node's folder that names this chain; nothing runs in it."""
    path = folder / "deployment.json"
    deployments.save(world.deployment, path)
    made = folder / "node"
    create_folder(
        made,
        rpc=world.node.url,
        deployment_file=path,
        endpoint="127.0.0.1:7001",
        roles=frozenset(Role),
    )
    return made


async def test_quote__registry_as_it_stands__odds_of_its_tiers(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, units in enumerate((1, 1, 1, 2, 5)):
        await member(world, tmp_path / str(number), units=units)
    assert (await NodeRegistry(world.rpc, world.deployment).tiers())[:4] == (3, 1, 1, 0)
    folder = node_folder(world, tmp_path)
    words = ["task", "quote", "--node", str(folder), "--dishonest", "1/9", "--lazy", "0"]

    code = await asyncio.to_thread(cli.run, [*words, "--offline", "10%", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    found = json.loads(said.out)
    assert found["network"] == {"nodes": 5, "weight": 9, "tiers": [3, 1, 1, *[0] * 7]}
    assumed = Assumptions(Fraction(1, 9), Fraction(0), Fraction(1, 10))
    assert found["odds"]["task_captured"] == odds_of([3, 1, 1], 3, assumed).task_captured
    assert found["odds"]["task_stalls"] == odds_of([3, 1, 1], 3, assumed).task_stalls

    code = await asyncio.to_thread(cli.run, [*words, "--committee", "5"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "only 5 nodes can be drawn and 6 are needed" in " ".join(said.out.split())


async def test_quote__rpc_does_not_answer__one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = node_folder(world, tmp_path)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace(world.node.url, "http://127.0.0.1:1"))
    code = await asyncio.to_thread(cli.run, ["task", "quote", "--node", str(folder)])
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "RPC" in said.err

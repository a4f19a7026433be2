"""Deployment and registration files: whole and right, or refused with the next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodeclient.chain import deployment as deployments
from nodeclient.chain import registration
from nodeclient.chain.errors import DeploymentInvalid
from nodeclient.chain.registration import RegistrationInvalid
from tests.chain.conftest import World
from tests.chain.people import newcomer, registration_file

pytestmark = pytest.mark.chain


async def test_deployment__saved_and_loaded__the_same(world: World, tmp_path: Path) -> None:
    path = tmp_path / "deployments" / "anvil.json"
    deployments.save(world.deployment, path)
    loaded = deployments.load(path)
    assert deployments.to_json(loaded) == json.loads(path.read_text())
    assert loaded["TaskMarket"].address == world.deployment["TaskMarket"].address
    assert [one.name for one in path.parent.iterdir()] == ["anvil.json"]
    await deployments.check_chain(loaded, world.rpc)


def changed(data: dict[str, Any], *path: str, to: object) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(data))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return copy


async def test_deployment__malformed__refused_with_next_step(world: World) -> None:
    good = deployments.to_json(world.deployment)
    same = good["contracts"]["NodeRegistry"]["address"]
    for bad in (
        changed(good, "format", to=99),
        changed(good, "chain_id", to="31337"),
        changed(good, "chain_id", to=True),
        changed(good, "deploy_block", to=-1),
        changed(good, "contracts", "TaskMarket", to=None),
        changed(good, "contracts", "TaskMarket", "address", to="0x1234"),
        changed(good, "contracts", "TaskMarket", "address", to=same),
        changed(good, "contracts", "TaskMarket", "abi", to=[{"type": "function"}]),
        [],
        None,
    ):
        with pytest.raises(DeploymentInvalid, match="deploy again"):
            deployments.parse(bad)


def test_deployment__missing_or_no_json__refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentInvalid, match="ape run deploy"):
        deployments.load(tmp_path / "nothing.json")
    (tmp_path / "text").write_text("[" * 5_000)
    with pytest.raises(DeploymentInvalid, match="is not JSON"):
        deployments.load(tmp_path / "text")
    (tmp_path / "large").write_bytes(b" " * (deployments.MAX_FILE + 1))
    with pytest.raises(DeploymentInvalid, match="larger than"):
        deployments.load(tmp_path / "large")


async def test_check_chain__another_chain_or_no_code__refused(world: World) -> None:
    good = deployments.to_json(world.deployment)
    other = deployments.parse(changed(good, "chain_id", to=1))
    with pytest.raises(DeploymentInvalid, match="serves chain 31337"):
        await deployments.check_chain(other, world.rpc)
    nowhere = changed(good, "contracts", "TaskMarket", "address", to="0x" + "11" * 20)
    with pytest.raises(DeploymentInvalid, match="there is no TaskMarket"):
        await deployments.check_chain(deployments.parse(nowhere), world.rpc)


async def test_registration__any_field_changed__not_signed(world: World, tmp_path: Path) -> None:
    path = registration_file(world, newcomer(world), tmp_path / "node")
    good = json.loads(path.read_text())
    assert registration.is_signed(registration.load(path))
    for bad in (
        changed(good, "chain_id", to=1),
        changed(good, "registry", to="0x" + "11" * 20),
        changed(good, "account", to="0x" + "11" * 20),
        changed(good, "contact", to="0x00"),
        changed(good, "registration", "vrf_prefix", to=5 - good["registration"]["vrf_prefix"]),
        changed(good, "registration", "root_x", to=good["registration"]["root_x"] ^ 1),
        changed(good, "r", to=good["r"] ^ 1),
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(RegistrationInvalid, match="not signed by its root key"):
            registration.load(path)


async def test_registration__high_s__refused_as_the_contract_does(
    world: World, tmp_path: Path
) -> None:
    path = registration_file(world, newcomer(world), tmp_path / "node")
    data = json.loads(path.read_text())
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    path.write_text(json.dumps(changed(data, "s", to=order - data["s"])))
    with pytest.raises(RegistrationInvalid, match="not signed"):
        registration.load(path)


async def test_registration__malformed__refused(world: World, tmp_path: Path) -> None:
    path = registration_file(world, newcomer(world), tmp_path / "node")
    good = json.loads(path.read_text())
    for bad in (
        changed(good, "account", to="0x12"),
        changed(good, "r", to=-1),
        changed(good, "r", to=1 << 256),
        changed(good, "contact", to="0x" + "00" * 3000),
        changed(good, "registration", to=None),
        [],
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(RegistrationInvalid, match="is malformed"):
            registration.load(path)

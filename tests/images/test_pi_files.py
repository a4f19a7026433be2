"""The files of ``scripts/pi`` for a Pi's host: what they name exists, and is what it should be."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from nodeclient.cli import app
from nodeclient.config.node import ServicesConfig
from nodeclient.images.service.build import ENTRYPOINT, HOME, PROGRAMS, sources
from nodeclient.images.services import PROJECT, SERVICE
from scripts.embedded.chain import ROOT

PI = ROOT / "scripts" / "pi"
IMAGE = "sha256:" + "ab" * 32
PLAIN, NETBOOT = ("compose.yaml",), ("compose.yaml", "compose.netboot.yaml")
# A PC on the cable: packet filter and addresses, raw DHCP, low ports, and to become nobody.
CABLE = {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SETUID", "SETGID", "SETPCAP"}
# Each as systemd 252 spells it: what is misspelt there is ignored with a warning.
DIRECTIVES = {
    "Unit": {"Description", "After", "Wants"},
    "Service": {
        *("ExecStart", "Restart", "RestartSec", "NoNewPrivileges", "ProtectSystem"),
        *("ProtectHome", "PrivateTmp", "ReadWritePaths"),
    },
    "Install": {"WantedBy"},
}


def compose(files: tuple[str, ...], **settings: str) -> subprocess.CompletedProcess[str]:
    """`docker-compose config`: parsed, merged, checked against its schema."""
    words = [word for name in files for word in ("-f", str(PI / name))]
    return subprocess.run(
        ["docker-compose", *words, "config"],
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def node_of(files: tuple[str, ...]) -> dict[str, Any]:
    """The only service, as the engine is asked for it."""
    done = compose(files, SEALRUN_IMAGE=IMAGE, SEALRUN_NODE="/srv/node")
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"node"}
    return services["node"]


def is_command(words: list[str]) -> None:
    """Parse words as `sealrun` would, without running them. Raises where they are no command."""
    command: Any = get_command(app)
    context = typer.Context(command, info_name="sealrun")
    while words and hasattr(command, "commands"):
        name, command = words[0], command.get_command(context, words[0])
        assert command is not None, f"no command {name}"
        context = typer.Context(command, parent=context, info_name=name)
        words = words[1:]
    command.parse_args(context, list(words))


@pytest.mark.parametrize(("files", "added"), [(PLAIN, set()), (NETBOOT, CABLE)])
def test_compose__merged__the_given_image_with_no_more_rights_than_it_needs(
    files: tuple[str, ...], added: set[str]
) -> None:
    node = node_of(files)
    assert node["image"] == IMAGE
    assert node["cap_drop"] == ["ALL"]
    assert set(node.get("cap_add", ())) == added
    assert node["read_only"] is True
    assert node["security_opt"] == ["no-new-privileges:true"]
    assert node["volumes"] == [
        "/srv/node:/node:rw",
        "/srv/node/config.toml:/node/config.toml:ro",  # the guard believes what stands in these
        "/srv/node/deployment.json:/node/deployment.json:ro",
    ], "the node's folder is all that it sees"
    assert all("noexec,nosuid,nodev" in each for each in node["tmpfs"])
    assert node["restart"] == "unless-stopped", "the guard's stop must last"


@pytest.mark.parametrize("missing", ["SEALRUN_IMAGE", "SEALRUN_NODE"])
def test_compose__image_or_folder_not_named__refused(missing: str) -> None:
    given = {"SEALRUN_IMAGE": IMAGE, "SEALRUN_NODE": "/srv/node"}
    del given[missing]
    assert compose(PLAIN, **given).returncode != 0


def test_compose__what_it_starts_and_asks__is_in_the_image() -> None:
    node = node_of(PLAIN)
    folder = node["volumes"][0].split(":")[1]
    is_command(node["command"])
    assert node["command"][-1] == folder
    kind, python, flag, module, asked = node["healthcheck"]["test"]
    assert (kind, flag, asked) == ("CMD", "-m", folder)
    assert python == ENTRYPOINT[0]
    assert python.removeprefix("/") in PROGRAMS
    assert importlib.util.find_spec(module) is not None
    shipped = {name for name, _ in sources()}
    assert f"{module.replace('.', '/')}.py" in shipped, f"not below /{HOME}"


def test_compose__its_labels__are_those_that_the_guard_looks_for() -> None:
    labels = node_of(PLAIN)["labels"]
    assert labels == {PROJECT: ServicesConfig().project, SERVICE: "node"}


@pytest.fixture
def unit() -> RawConfigParser:
    found = RawConfigParser(strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]  # systemd minds the case
    found.read_string((PI / "sealrun-guard.service").read_text())
    return found


def test_unit__its_directives__are_systemds(unit: RawConfigParser) -> None:
    assert {name: set(unit[name]) for name in unit.sections()} == DIRECTIVES


def test_unit__its_command__is_one_and_may_write_where_it_does(unit: RawConfigParser) -> None:
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "sealrun"
    is_command(words)
    assert words[:2] == ["node", "guard"]
    # All else is read-only for it: services.json and services.jsonl lie in the node's folder.
    assert unit["Service"]["ProtectSystem"] == "strict"
    assert unit["Service"]["ReadWritePaths"].split() == [words[2]]


def test_unit__guard_dies_or_the_engine_is_late__it_is_back(unit: RawConfigParser) -> None:
    assert unit["Service"]["Restart"] == "always"
    assert "docker.service" in unit["Unit"]["After"].split()
    assert "Requires" not in unit["Unit"], "it would end with the engine, and not come back"


@pytest.mark.parametrize("file", sorted(PI.iterdir()), ids=lambda file: file.name)
def test_comments__commands_and_files_that_they_name__exist(file: Path) -> None:
    text = "".join(line for line in file.read_text().splitlines(True) if line.startswith("#"))
    for words in re.findall(r"sealrun (node \w+|image \w+)", text):
        is_command([*words.split(), "a"])
    for name in re.findall(r"[\w.-]+\.(?:yaml|service)\b", text):
        assert (PI / name).is_file(), name
    for title in re.findall(r'docs/operating.md, "([^"]+)"', text):
        assert f"\n## {title}\n" in (ROOT / "docs/operating.md").read_text()

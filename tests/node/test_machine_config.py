"""`[machine]` in config.toml: which adapter it names, and what it refuses."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.boot import BootParameters
from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from agent.formats.rpc import RpcError
from nodeclient.config.node import Config, LocalMachineConfig, load_config, responses
from nodeclient.core.evidence_policy import AppraisalPolicy
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.core.responses import DEFAULTS, Response
from nodeclient.daemon import accepted, appraisal_policy
from nodeclient.errors import ConfigError
from nodeclient.machine.choose import choose_machine
from nodeclient.machine.incidents import log_only
from nodeclient.machine.lab import Qemu
from nodeclient.machine.link import LinkKeys
from nodeclient.machine.local import LocalMachine
from nodeclient.machine.netboot import HookPower, NetbootMachine
from nodeclient.machine.proxy import ProxyRules
from nodeclient.machine.supply import Supply
from nodeclient.roots.software import SoftwareRoot
from nodeclient.upkeep.reference import Accepted
from tests.machine.support import some_root

BASE = """
[chain]
rpc = "http://localhost:8545"
deployment = "deployment.json"
[node]
endpoint = "localhost:7001"
"""
NETBOOT = f"""
[machine]
kind = "netboot"
interface = "eth0"
mac = "52:54:00:77:00:01"
boot_image = "{"ab" * 32}"
"""
HOOKS = """
[machine.power]
off = ["/usr/local/bin/relay", "off"]
"""
QEMU = """
[machine.power]
kind = "qemu"
tap = "cable"
"""


def load(folder: Path, text: str) -> Config:
    (folder / "config.toml").write_text(BASE + text)
    return load_config(folder)


def choose(config: Config, report: Report = log_only) -> object:
    async def refuse(*_: object) -> bytes:
        raise RpcError("missing", "nothing is here")

    async def no_image(image: bytes) -> Path | None:
        return None

    async def approved(image: bytes) -> bool:
        return True

    supply = Supply(refuse, refuse, no_image)  # type: ignore[arg-type]
    return choose_machine(config, supply, some_root(), approved, report=report)


@pytest.mark.parametrize(
    "text", ["", "[machine]\nimages = 'elsewhere'", '[machine]\nkind = "local"']
)
def test_machine__no_kind_or_local__the_process(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert isinstance(config.machine, LocalMachineConfig)
    assert isinstance(choose(config), LocalMachine)


def test_machine__netboot_with_hooks__the_pc(tmp_path: Path) -> None:
    machine = choose(load(tmp_path, NETBOOT + HOOKS.replace("off =", 'kind = "hooks"\noff =')))
    assert isinstance(machine, NetbootMachine)
    assert isinstance(machine._power, HookPower)
    assert machine._power.off_command == ("/usr/local/bin/relay", "off")
    assert machine._settings.image == b"\xab" * 32
    assert machine._settings.images == tmp_path / "images/boot"


@pytest.mark.parametrize(("head", "tail"), [("[machine]\n", ""), (NETBOOT, QEMU)])
def test_machine__proxy__the_operator_s_networks_and_bytes(
    tmp_path: Path, head: str, tail: str
) -> None:
    lines = 'proxy_networks = ["10.0.0.0/8", "fd00::/8"]\nproxy_mib = 1\n'
    machine = choose(load(tmp_path, head + lines + tail))
    assert isinstance(machine, LocalMachine | NetbootMachine)
    networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert machine._settings.proxy == ProxyRules(networks, 1 << 20)


def test_machine__netboot_with_qemu__the_lab(tmp_path: Path) -> None:
    machine = choose(load(tmp_path, NETBOOT + QEMU))
    assert isinstance(machine, NetbootMachine)
    assert isinstance(machine._power, Qemu)
    assert machine._power.console == tmp_path / "machine/pc/console.log"
    assert "tpm" in machine._power.simulated


@pytest.mark.parametrize(("head", "tail"), [("", ""), (NETBOOT, HOOKS)])
@pytest.mark.parametrize("simulated", [True, False])
def test_machine__simulated_root__is_named_in_the_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, tail: str, simulated: bool
) -> None:
    """A stand-in for a Zymkey is registered as one: its class alone would not say it."""
    monkeypatch.setattr(SoftwareRoot, "simulated", simulated)
    machine = choose(load(tmp_path, head + tail))
    assert isinstance(machine, LocalMachine | NetbootMachine)
    assert ("root" in machine._settings.simulated) is simulated


def test_machine__simulated_part_of_the_pi__is_told_to_the_pc(tmp_path: Path) -> None:
    machine = choose(load(tmp_path, NETBOOT + QEMU))
    assert isinstance(machine, NetbootMachine)
    order = machine._order(LinkKeys.fresh(b"\5" * 32), 1)
    assert {"root", "tpm"} <= set(BootParameters.decode(order.parameters).simulated)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[machine]\nkind = "cloud"', "machine"),
        (NETBOOT, "machine.netboot.power: Field required"),
        ((NETBOOT + QEMU).replace("eth0", "eth0;x"), r"machine\.netboot\.interface"),
        ((NETBOOT + QEMU).replace("52:54", "53:54"), r"machine\.netboot\.mac"),
        ((NETBOOT + QEMU).replace("abab", "ab"), r"machine\.netboot\.boot_image"),
        (NETBOOT + '[machine.power]\nkind = "hooks"\noff = []', r"power\.hooks\.off"),
        (NETBOOT + '[machine.power]\nkind = "hooks"', r"power\.hooks\.off"),
        (NETBOOT + QEMU + "settle_seconds = 1", r"power\.qemu\.settle_seconds"),
        ('[machine]\nproxy_networks = ["10.0.0.1/8"]', r"machine\.local\.proxy_networks"),
        ("[machine]\nproxy_mib = -1", r"machine\.local\.proxy_mib"),
        ('[machine]\nmac = "52:54:00:77:00:01"', r"machine\.local\.mac"),
    ],
)
def test_machine__wrong_or_missing_key__named(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(tmp_path, text)


def test_accept__nothing_said__a_tpm_and_nothing_simulated(tmp_path: Path) -> None:
    """A Pi that vouches for its own Machine could make all of it up."""
    assert appraisal_policy(load(tmp_path, "")) == AppraisalPolicy(vouch=frozenset({TPM_QUOTED}))
    said = "[machine]\naccept_vouch = ['PI-ONLY']\naccept_simulated = ['machine']"
    expected = AppraisalPolicy(vouch=frozenset({PI_ONLY}), simulated=frozenset({"machine"}))
    assert appraisal_policy(load(tmp_path, said)) == expected


def test_accept__drivers_firmware_files__none_unless_named(tmp_path: Path) -> None:
    assert accepted(load(tmp_path, "").machine) == Accepted()
    keys = ("accept_drivers", "accept_firmware", "accept_files")
    said = "[machine]\n" + "\n".join(f"{key} = ['{n:064x}']" for n, key in enumerate(keys))
    expected = Accepted(*(frozenset({n.to_bytes(32, "big")}) for n in range(3)))
    assert accepted(load(tmp_path, said).machine) == expected
    with pytest.raises(ConfigError, match="accept_drivers"):
        load(tmp_path, "[machine]\naccept_drivers = ['all']")


def test_accept__nobody_s_word__refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accept_vouch"):
        load(tmp_path, "[machine]\naccept_vouch = ['ANYBODY']")


def test_actions__nothing_said__the_defaults(tmp_path: Path) -> None:
    assert responses(load(tmp_path, "").machine) == DEFAULTS


def test_actions__a_kind_that_is_named__has_these_rows_and_no_others(tmp_path: Path) -> None:
    text = """
[machine.actions]
stray = { 5 = ["report", "ban"], 1 = ["report"] }
silence = {}
"""
    table = responses(load(tmp_path, text).machine)
    assert table[Kind.STRAY] == (
        (1, (Response.REPORT,)),
        (5, (Response.REPORT, Response.BAN)),
    )
    assert table[Kind.SILENCE] == ()
    assert table[Kind.HARDWARE] == DEFAULTS[Kind.HARDWARE]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('stray = { 1 = ["shrug"] }', r"actions\.stray"),
        ('weather = { 1 = ["report"] }', r"actions\.weather"),
        ('stray = { 0 = ["report"] }', r"actions\.stray"),
        ('stray = { often = ["report"] }', r"actions\.stray"),
        ('stray = ["report"]', r"actions\.stray"),
    ],
)
def test_actions__unknown_word__refused(tmp_path: Path, row: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(tmp_path, f"[machine.actions]\n{row}\n")


def test_hooks__time_limit__is_configured(tmp_path: Path) -> None:
    machine = choose(load(tmp_path, NETBOOT + HOOKS + "hook_seconds = 5"))
    assert isinstance(machine, NetbootMachine)
    assert isinstance(machine._power, HookPower)
    assert machine._power.hook_seconds == 5


@pytest.mark.parametrize("text", ["", NETBOOT + QEMU])
def test_report__goes_to_the_machine(tmp_path: Path, text: str) -> None:
    seen: list[Incident] = []
    machine = choose(load(tmp_path, text), report=seen.append)
    machine._events._report(Incident(Kind.STRAY, "x"))  # type: ignore[attr-defined]
    assert seen == [Incident(Kind.STRAY, "x")]

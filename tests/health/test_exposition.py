"""What Prometheus reads: the format by an independent reader, the numbers, the conventions."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from nodeclient.core.health import Picture
from nodeclient.core.verdict import Fault, Notice, judge
from nodeclient.health.exposition import expose, gauge, render
from tests.health.kit import BOOT, CHAIN, NOW, PICTURE, RUNTIME, YEAR, registered
from tests.health.prometheus_reader import Family, read
from tests.health.test_verdict import FAULTS


def page(picture: Picture = PICTURE) -> dict[str, Family]:
    return read(expose(picture, judge(picture)))


def value(picture: Picture, name: str, **labels: str) -> float:
    return page(picture)[f"sealrun_{name}"].samples[tuple(labels.items())]


@pytest.mark.parametrize(
    ("name", "labels", "number"),
    [
        ("healthy", {}, 1),
        ("root_usable", {}, 1),
        ("root_tampered", {}, 0),
        ("root_info", {"class": "TPM2", "simulated": "false"}, 1),
        ("chain_up", {}, 1),
        ("chain_head_block", {}, 1_000),
        ("chain_head_timestamp_seconds", {}, NOW - 3),
        ("chain_head_age_seconds", {}, 3),
        ("chain_behind_blocks", {}, 0),
        ("registered", {}, 1),
        ("node_status", {"status": "ACTIVE"}, 1),
        ("node_status", {"status": "PAUSED"}, 0),
        ("deposit_ether", {}, 4),
        ("deposit_unit_ether", {}, 1),
        ("reputation_ratio", {}, 0.521),
        ("images", {"use": "boot", "standing": "approved"}, 1),
        ("images", {"use": "runtime", "standing": "revoked"}, 1),
        ("images", {"use": "boot", "standing": "revoked"}, 0),
        ("image_approval_ends_timestamp_seconds", {}, NOW + YEAR),
        ("machine_banned", {}, 0),
        ("incidents_total", {"kind": "stray"}, 2),
        ("incidents_total", {"kind": "silence"}, 0),
        ("incidents_total", {"kind": "service"}, 0),
        ("services_watched_block", {}, 999),
        ("tasks_open", {"state": "ADMITTED"}, 1),
        ("tasks_open", {"state": "DRAWN"}, 0),
        ("tasks_known", {}, 37),
        ("tasks_ended_total", {"state": "SETTLED"}, 5),
        ("tasks_ended_total", {"state": "FAILED"}, 0),
        ("peers_known", {}, 7),
        ("peers_reachable", {}, 6),
        ("peer_findings", {}, 0),
        ("picture_timestamp_seconds", {}, NOW),
        ("start_time_seconds", {}, NOW - 60),
    ],
)
def test_metric__its_number__is_the_pictures(
    name: str, labels: dict[str, str], number: float
) -> None:
    assert value(PICTURE, name, **labels) == number


@pytest.mark.parametrize(("fault", "picture"), FAULTS)
def test_fault__is_one__and_all_others_zero(fault: Fault, picture: Picture) -> None:
    samples = page(picture)["sealrun_fault"].samples
    assert {dict(labels)["code"] for labels in samples} == {code.value for code in Fault}
    assert {dict(labels)["code"] for labels, number in samples.items() if number} == {fault.value}
    assert value(picture, "healthy") == 0


def test_notice__none__every_code_is_there() -> None:
    samples = page()["sealrun_notice"].samples
    assert {dict(labels)["code"] for labels in samples} == {code.value for code in Notice}


def test_deposit__not_exact_in_ether__is_the_nearest_double() -> None:
    deposit = value(registered(deposit=1_234_567_890_123_456_789), "deposit_ether")
    assert deposit == 1.2345678901234568


def test_unknown_parts__have_no_sample() -> None:
    bare = replace(PICTURE, chain=None, peers=None, tasks=None, started_at=None)
    names = set(page(bare))
    assert value(bare, "chain_up") == 0
    assert not {n for n in names if re.search("head|deposit|images|peers|tasks|start_time", n)}
    unregistered = replace(PICTURE, chain=replace(CHAIN, registry=None, applied=None))
    assert value(unregistered, "registered") == 0
    names = set(page(unregistered))
    assert not names & {"sealrun_deposit_ether", "sealrun_chain_behind_blocks"}


def test_conventions__prefix_types_units_help() -> None:
    for name, family in page().items():
        assert re.fullmatch(r"sealrun_[a-z][a-z0-9_]*[a-z0-9]", name)
        assert (family.type == "counter") == name.endswith("_total"), name
        assert family.type in ("counter", "gauge")
        assert family.help.endswith(".")
        assert family.samples


def test_page__names_no_image_account_or_text() -> None:
    """Labels come from fixed sets: the number of series cannot grow, and nothing is given away."""
    text = expose(PICTURE, judge(PICTURE)).lower()
    for foreign in (BOOT.hex(), RUNTIME.hex(), PICTURE.account.hex(), "all well"):
        assert foreign not in text


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "\\n", '\\"', "ü{},= x", ""])
def test_escaping__any_text__is_read_as_it_was(text: str) -> None:
    family = read(render(gauge("x", text or "none", ({"a": text, "b": "c"}, 1.5))))["sealrun_x"]
    assert family.samples == {(("a", text), ("b", "c")): 1.5}
    assert family.help == (text or "none")


@pytest.mark.parametrize("number", [0, 1, 10**15 + 1, 0.1, 1e-9, 1e22, -3])
def test_number__any__is_read_as_it_was(number: float) -> None:
    assert read(render(gauge("x", "h", ({}, number))))["sealrun_x"].samples == {(): number}


def test_family__without_samples__leaves_no_lines() -> None:
    assert render(gauge("x", "h")) == ""


@pytest.mark.parametrize(
    "bad",
    ["x 1", "# HELP x h\n# TYPE x gauge\nx 1\nx 1\n", "# HELP x h\n# TYPE x gauge\ny 1\n",
     "# HELP x h\n# TYPE x gauge\nx{a=\"1\",a=\"2\"} 1\n", "# HELP x h\n# TYPE x rate\nx 1\n"],
)  # fmt: skip
def test_reader__what_the_format_forbids__refused(bad: str) -> None:
    with pytest.raises(ValueError):
        read(bad)

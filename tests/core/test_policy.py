"""Owner policies: nothing is permitted that is not listed, and every reason is named."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields, replace
from typing import Any

import pytest

from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from agent.formats.taskspec import FunctionRef, Receiver
from nodeclient.core.evidence_policy import owner_appraisal
from nodeclient.core.policy import (
    ExecutorFacts,
    OwnerPolicy,
    PermittedFunction,
    PermittedReceiver,
    PolicyContext,
    Stage,
    permits,
)
from nodeclient.core.policy_file import PolicyError, policy_from_dict, policy_to_dict
from nodeclient.core.reasons import Code
from nodeclient.core.types import Address, RootClass
from nodeclient.errors import BadInput
from tests.core.evidence_kit import FUNCTION, FUNCTION_CID, INPUT_CID, OWNER, RUNTIME, SPEC

C = Code
B, D = SPEC.receivers
POLICY = OwnerPolicy(
    functions=frozenset({PermittedFunction(FUNCTION, SPEC.command)}),
    runtime_images=frozenset({RUNTIME}),
    receivers=frozenset(
        {PermittedReceiver(Address(B.node)), PermittedReceiver(Address(D.node), D.hpke_public)}
    ),
    uses=2,
    expires_at=1_000,
    expires_block=500,
    smallest_committee=3,
    least_reputation=4_000,
    least_deposit=10**18,
    root_classes=frozenset({RootClass.TPM2}),
    vouch=frozenset({PI_ONLY}),
    connections=frozenset(SPEC.connections),
    devices=frozenset(SPEC.devices),
    simulated=frozenset({"machine"}),
)
CONTEXT = PolicyContext(
    stage=Stage.RELEASE,
    owner=OWNER,
    cid=INPUT_CID,
    now=999,
    block=499,
    uses=1,
    committee_size=3,
    contact_keys={B.node: B.hpke_public},
    executor=ExecutorFacts(4_000, 10**18, RootClass.TPM2),
)
OTHER = b"\xee" * 32
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], set[Code]]] = [
    # title, policy, spec, context, codes
    ("capsule of another", {}, {}, {"cid": FUNCTION_CID[:-1] + "a"}, {C.CAPSULE_NOT_NAMED}),
    ("capsule under another owner", {}, {}, {"owner": Address(bytes(20))}, {C.CAPSULE_NOT_NAMED}),
    (
        "another function",
        {},
        {"function": FunctionRef(FUNCTION_CID, OWNER, OTHER)},
        {},
        {C.FUNCTION_NOT_PERMITTED},
    ),
    ("no function listed", {"functions": frozenset()}, {}, {}, {C.FUNCTION_NOT_PERMITTED}),
    (
        "the right function, another command",
        {},
        {"command": ("cp", "-r", "/capsule/in", "/capsule/out/c")},
        {},
        {C.COMMAND_NOT_PERMITTED},
    ),
    ("another runtime image", {}, {"runtime_image": OTHER}, {}, {C.RUNTIME_NOT_PERMITTED}),
    (
        "another receiver",
        {},
        {"receivers": (*SPEC.receivers, Receiver("x", bytes(20), OTHER))},
        {},
        {C.RECEIVER_NOT_PERMITTED},
    ),
    (
        "a permitted node under the requester's key",
        {},
        {"receivers": (Receiver("b", B.node, OTHER), D)},
        {},
        {C.RECEIVER_NOT_PERMITTED},
    ),
    (
        "a listed key's node under another key",
        {},
        {"receivers": (B, Receiver("c", D.node, OTHER))},
        {},
        {C.RECEIVER_NOT_PERMITTED},
    ),
    ("receiver without a proven contact", {}, {}, {"contact_keys": {}}, {C.RECEIVER_NOT_PERMITTED}),
    (
        "another connection",
        {},
        {"connections": ("evil.example:443",)},
        {},
        {C.CONNECTION_NOT_PERMITTED},
    ),
    ("another device", {}, {"devices": ("/dev/ttyUSB1",)}, {}, {C.DEVICE_NOT_PERMITTED}),
    ("uses spent", {}, {}, {"uses": 2}, {C.USES_SPENT}),
    ("expired by time", {}, {}, {"now": 1_000}, {C.EXPIRED}),
    ("expired by block", {}, {}, {"block": 500}, {C.EXPIRED}),
    ("no end named", {"expires_at": None, "expires_block": None}, {}, {}, {C.EXPIRED}),
    ("committee too small", {"smallest_committee": 5}, {}, {}, {C.COMMITTEE_TOO_SMALL}),
    (
        "committee below three",
        {"smallest_committee": 0},
        {},
        {"committee_size": 2},
        {C.COMMITTEE_TOO_SMALL},
    ),
    ("executor unknown", {}, {}, {"executor": None}, {C.EXECUTOR_UNKNOWN}),
    (
        "reputation too low",
        {},
        {},
        {"executor": ExecutorFacts(3_999, 10**18, RootClass.TPM2)},
        {C.REPUTATION_TOO_LOW},
    ),
    (
        "deposit too low",
        {},
        {},
        {"executor": ExecutorFacts(4_000, 10**18 - 1, RootClass.TPM2)},
        {C.DEPOSIT_TOO_LOW},
    ),
    (
        "software root",
        {},
        {},
        {"executor": ExecutorFacts(4_000, 10**18, RootClass.SOFTWARE)},
        {C.ROOT_CLASS_NOT_PERMITTED},
    ),
    ("no root class listed", {"root_classes": frozenset()}, {}, {}, {C.ROOT_CLASS_NOT_PERMITTED}),
    ("nobody may vouch", {"vouch": frozenset()}, {}, {}, {C.VOUCH_NOT_PERMITTED}),
]


def test_permits__all_listed__nothing_against() -> None:
    assert permits(POLICY, SPEC, CONTEXT) == ()


@pytest.mark.parametrize(
    ("policy", "spec", "context", "codes"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_permits__one_thing_changed__refused_for_that_reason(
    policy: dict[str, Any], spec: dict[str, Any], context: dict[str, Any], codes: set[Code]
) -> None:
    found = permits(replace(POLICY, **policy), replace(SPEC, **spec), replace(CONTEXT, **context))
    assert {each.code for each in found} == codes


def test_permits__no_policy__refused() -> None:
    assert [each.code for each in permits(None, SPEC, CONTEXT)] == [Code.NO_POLICY]


def test_permits__empty_policy__everything_refused() -> None:
    codes = {each.code for each in permits(OwnerPolicy(), SPEC, CONTEXT)}
    assert codes == {
        C.FUNCTION_NOT_PERMITTED,
        C.RUNTIME_NOT_PERMITTED,
        C.RECEIVER_NOT_PERMITTED,
        C.CONNECTION_NOT_PERMITTED,
        C.DEVICE_NOT_PERMITTED,
        C.USES_SPENT,
        C.EXPIRED,
        C.COMMITTEE_TOO_SMALL,
        C.REPUTATION_TOO_LOW,
        C.DEPOSIT_TOO_LOW,
        C.ROOT_CLASS_NOT_PERMITTED,
        C.VOUCH_NOT_PERMITTED,
    }


@pytest.mark.parametrize("name", [each.name for each in fields(OwnerPolicy)])
def test_permits__any_field_left_out__refused_unless_another_says_it(name: str) -> None:
    """A field that is left out permits nothing; one end of the two suffices, and simulated parts
    are judged with the Evidence."""
    policy = replace(POLICY, **{name: getattr(OwnerPolicy(), name)})
    permitted = name in ("expires_at", "expires_block", "simulated")
    assert (permits(policy, SPEC, CONTEXT) == ()) == permitted


def test_permits__consent_before_the_draw__executor_not_needed() -> None:
    context = replace(CONTEXT, stage=Stage.CONSENT, executor=None)
    assert permits(POLICY, SPEC, context) == ()


def test_permits__several_things_wrong__all_named() -> None:
    spec = replace(SPEC, runtime_image=OTHER, devices=("/dev/ttyUSB1", "/dev/ttyUSB2"))
    found = permits(POLICY, spec, replace(CONTEXT, uses=9))
    assert [each.code for each in found] == [
        C.RUNTIME_NOT_PERMITTED,
        C.DEVICE_NOT_PERMITTED,
        C.DEVICE_NOT_PERMITTED,
        C.USES_SPENT,
    ]


def test_permits__function_capsule__its_owner_is_asked_likewise() -> None:
    assert permits(POLICY, SPEC, replace(CONTEXT, cid=FUNCTION_CID)) == ()


def test_owner_appraisal__takes_vouch_and_simulated_parts() -> None:
    derived = owner_appraisal(POLICY)
    assert (derived.vouch, derived.simulated) == (POLICY.vouch, POLICY.simulated)
    assert not owner_appraisal(OwnerPolicy()).vouch


@pytest.mark.parametrize("policy", [POLICY, OwnerPolicy(), replace(POLICY, expires_at=None)])
def test_dictionary__through_json__same_policy(policy: OwnerPolicy) -> None:
    assert policy_from_dict(json.loads(json.dumps(policy_to_dict(policy)))) == policy


def test_dictionary__toml__read() -> None:
    text = """
    uses = 1
    expires_at = 2000000000
    vouch = ["TPM-QUOTED"]
    least_deposit = "340282366920938463463374607431768211455"
    root_classes = ["ZYMKEY"]
    [[functions]]
    digest = "0x%s"
    command = ["python3", "main.py"]
    """ % ("24" * 32)
    policy = policy_from_dict(tomllib.loads(text))
    assert policy.functions == {PermittedFunction(FUNCTION, ("python3", "main.py"))}
    assert policy.least_deposit == 2**128 - 1
    assert policy.vouch == {TPM_QUOTED}


def test_dictionary__says_nothing_of_vouching__only_a_tpm_may() -> None:
    assert policy_from_dict({}) == OwnerPolicy(vouch=frozenset({TPM_QUOTED}))
    assert policy_from_dict({"vouch": []}).vouch == frozenset()
    assert policy_from_dict({"vouch": ["PI-ONLY"]}).vouch == {PI_ONLY}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"use": 1}, "unknown field 'use'"),
        ({"uses": True}, "uses needs an integer"),
        ({"uses": -1}, "uses needs an integer"),
        ({"uses": 1.0}, "uses needs an integer"),
        ({"uses": "1e3"}, "uses needs an integer"),
        ({"smallest_committee": 2}, "from 3 to 11"),
        ({"least_reputation": 10_001}, "from 0 to 10000"),
        ({"least_deposit": "9" * 40}, "least_deposit needs an integer"),
        ({"expires_at": None}, "expires_at needs an integer"),
        ({"vouch": ["ME"]}, "vouch needs some of PI-ONLY, TPM-QUOTED"),
        ({"vouch": "PI-ONLY"}, "vouch needs a list"),
        ({"root_classes": [1]}, "root_classes needs some of"),
        ({"runtime_images": ["0x12"]}, "64 hex digits"),
        ({"runtime_images": ["21" * 32]}, "0x and 64 hex digits"),
        ({"functions": [{"digest": "0x" + "24" * 32}]}, "command, digest"),
        ({"functions": [{"digest": "0x" + "24" * 32, "command": []}]}, "command is empty"),
        ({"functions": [{"digest": "0x" + "24" * 32, "command": "sh"}]}, "needs a list"),
        ({"functions": [{"digest": "0x" + "24" * 32, "command": ["a\nb"]}]}, "printable"),
        ({"functions": ["0x" + "24" * 32]}, "functions needs entries with"),
        ({"receivers": [{"node": "0x" + "24" * 19}]}, "40 hex digits"),
        ({"receivers": [{"node": "0x" + "24" * 20, "key": "0x"}]}, "receivers needs entries"),
        ({"connections": ["a:1"] * 257}, "at most 256"),
        ({"devices": [""]}, "devices needs printable text"),
    ],
)
def test_dictionary__out_of_shape__one_line_that_says_what_to_write(
    source: dict[str, object], message: str
) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        policy_from_dict(source)
    assert isinstance(caught.value, BadInput)
    assert str(caught.value).endswith("; correct the policy")
    assert "\n" not in str(caught.value)

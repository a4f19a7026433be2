"""What a Zymkey says about itself: one form, bounded, nothing skipped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.formats import cbor
from agent.formats.cbor import FormatError
from nodeclient.core.zymkey import STAND_IN, Binding, ZymkeyEndorsement, parse_zymkey

HONEST = ZymkeyEndorsement("00c1", "Zymkey 4i", "01.02", bytes(range(64)), None, (0, 1))


@pytest.mark.parametrize("binding", [None, Binding(False, True), Binding(True, True)])
@pytest.mark.parametrize("perimeter", [(), (0,), (1,), (0, 1)])
def test_parse__what_was_encoded__comes_back(
    binding: Binding | None, perimeter: tuple[int, ...]
) -> None:
    said = replace(HONEST, binding=binding, perimeter=perimeter)
    assert parse_zymkey(said.encode()) == said


def test_simulated__stand_in__admits_it() -> None:
    assert replace(HONEST, model=STAND_IN + " of any version").simulated
    assert not HONEST.simulated


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "tpm2"},
        {"serial": 7},
        {"model": "x" * 129},
        {"firmware": "two\nlines"},
        {"public_key": bytes(63)},
        {"binding": [True]},
        {"binding": [1, 0]},
        {"binding": False},
        {"perimeter": [2]},
        {"perimeter": [0, 0]},
        {"perimeter": [0, 1, 0]},
        {"perimeter": [True]},
        {"further": 1},
    ],
)
def test_parse__anything_else__refused(change: dict[str, object]) -> None:
    said = cbor.decode(HONEST.encode(), 1024)
    assert isinstance(said, dict)
    with pytest.raises(FormatError):
        parse_zymkey(cbor.encode({**said, **change}))


@pytest.mark.parametrize("name", ["kind", "serial", "binding", "perimeter"])
def test_parse__key_missing__refused(name: str) -> None:
    said = cbor.decode(HONEST.encode(), 1024)
    assert isinstance(said, dict)
    del said[name]
    with pytest.raises(FormatError):
        parse_zymkey(cbor.encode(said))


def test_parse__too_long__refused() -> None:
    with pytest.raises(FormatError):
        parse_zymkey(HONEST.encode() + bytes(1024))

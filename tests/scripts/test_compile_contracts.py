"""The size of a deployed contract, by which `make check` holds EIP-170."""

from __future__ import annotations

from typing import Any

from scripts.compile_contracts import MAX_CODE, faults_of


def output(code: int) -> dict[str, Any]:
    """What the compiler says of a contract with two immutables, one of them in a module."""
    word = {"type": "uint256", "length": 32, "offset": 0}
    return {
        "bytecode_runtime": "0x" + "fe" * code,
        "layout": {"code_layout": {"OWN": word, "module": {"ITS": word}}},
        "userdoc": {},
        "abi": [],
    }


def test_faults_of__immutables__count_for_the_limit() -> None:
    assert faults_of("Full", output(MAX_CODE - 64)) == []
    (fault,) = faults_of("Over", output(MAX_CODE - 63))
    assert fault == f"Over: {MAX_CODE + 1} bytes of code exceed {MAX_CODE}; move some of it out"

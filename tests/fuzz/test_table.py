"""No parser of foreign bytes is left out of the table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.targets import EXCLUDED, PACKAGES, targets
from tests.gates.test_imports import modules

# Of those named `check_…`, `verify_…` and `read_…` only these read bytes of strangers.
NAMED = {
    "agent.formats.evidence:verify_claim",
    "agent.formats.image:check_image_tar",
    "agent.formats.protocol:read_frame",
    "agent.formats.stream:Parts.read",
    "agent.formats.stream:read_answer",
    "agent.formats.stream:read_target",
    "nodeclient.core.claims:read_inventory",
    "nodeclient.core.claims:read_memory",
    "nodeclient.core.ecvrf:verify",
    "nodeclient.core.erasure:read_quoted",
    "nodeclient.core.tpm.attest:verify_attest",
    "nodeclient.core.tpm.endorsement:believed_above",
    "nodeclient.core.tpm.endorsement:check_endorsement",
    "nodeclient.duties.appraising:read_summary",
    "nodeclient.machine.handshake:read_preamble",
    "nodeclient.p2p.certificate:check_certificate",
    "nodeclient.p2p.contact:verify_record",
}
ALWAYS = re.compile(r"(decode|parse|open|unpack|from_body|load|inspect)(_.*)?")


def parsers(package: str) -> Iterator[str]:
    """Public functions and methods of a package that are named like parsers."""
    for module, file in modules(package):
        for name in functions(ast.parse(Path(file).read_text())):
            if ALWAYS.fullmatch(name.rpartition(".")[2]) or f"{module}:{name}" in NAMED:
                yield f"{module}:{name}"


def functions(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{inner}" for inner in functions(node))


@pytest.mark.parametrize("package", PACKAGES)
def test_table__every_parser__has_a_row_or_a_reason(package: str) -> None:
    covered = {name for target in targets().values() for name in target.covers}
    found = set(parsers(package))
    assert found, "nothing there: the list of packages is out of date"
    assert sorted(found - covered - set(EXCLUDED)) == []


def test_table__what_it_names__exists() -> None:
    known = {
        f"{module}:{name}"
        for package in PACKAGES
        for module, file in modules(package)
        for name in functions(ast.parse(Path(file).read_text()))
    }
    covered = {name for target in targets().values() for name in target.covers}
    assert sorted((covered | set(EXCLUDED) | NAMED) - known) == []
    assert not covered & set(EXCLUDED)
    assert covered >= NAMED


def test_parsers__a_new_one__is_seen() -> None:
    tree = ast.parse("class A:\n    def decode(self): ...\ndef parse_it(): ...\ndef f(): ...\n")
    named = [name for name in functions(tree) if ALWAYS.fullmatch(name.rpartition(".")[2])]
    assert named == ["A.decode", "parse_it"]

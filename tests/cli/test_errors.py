"""Whatever goes wrong is one line with the next step; nothing shows a traceback."""

from typing import Any

import pytest
from typer.main import get_command

from nodeclient import cli
from nodeclient.errors import BadInput, SealrunError
from tests.cli.conftest import Sealrun


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of the tree, by its words: it is imported as the command line does."""
    if not hasattr(command, "list_commands"):
        return [path]
    found = [(name, command.get_command(None, name)) for name in command.list_commands(None)]
    return [words for name, inner in found for words in leaves(inner, (*path, name))]


COMMANDS = leaves(get_command(cli.app))


def test_tree__commands__are_the_promised_ones() -> None:
    assert {" ".join(words) for words in COMMANDS} >= {
        "demo", "node init", "node run", "node status", "node admission", "node vouch",
        "capsule seal", "capsule inspect",
        "capsule open", "task submit", "task watch", "task status", "task results",
        "image build", "image verify",
    }  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command__offers_json(words: tuple[str, ...], sealrun: Sealrun) -> None:
    outcome = sealrun(*words, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


@pytest.mark.parametrize(
    "line",
    [
        "nope",
        "node nope",
        "node init",
        "task watch x",
        "task watch 0",
        "task submit /nowhere/task.toml",
        "task status 1 --colour",
        "capsule seal /nowhere",
        "capsule inspect",
        "image verify /nowhere.tar",
        "node run /nowhere",
        "demo --function /nowhere",
    ],
)
def test_bad_input__one_line__exit_code_2(line: str, sealrun: Sealrun) -> None:
    outcome = sealrun(*line.split())
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith("sealrun: ")
    assert ";" in outcome.err


def test_image_verify__no_image__exit_code_2(tmp_path, sealrun: Sealrun) -> None:
    (tmp_path / "junk.tar").write_bytes(b"\0" * 4096)
    outcome = sealrun("image", "verify", tmp_path / "junk.tar")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("nodeclient.cli.app", broken)


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (BadInput("wrong", "do this"), 2, "wrong; do this"),
        (SealrunError("failed", "do that"), 1, "failed; do that"),
        (SealrunError("two\nlines", "do\tthat"), 1, "two lines; do that"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied; check"),
        (KeyboardInterrupt(), 130, "interrupted; run"),
    ],
)
def test_error__any__is_one_line_with_its_code(
    error: BaseException, code: int, shown: str, monkeypatch: pytest.MonkeyPatch, sealrun: Sealrun
) -> None:
    fail_with(error, monkeypatch)
    outcome = sealrun("demo")
    assert (outcome.code, outcome.err.count("\n")) == (code, 1)
    assert shown in outcome.err


def test_error__unforeseen__keeps_the_traceback_without_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path, sealrun: Sealrun
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fail_with(ZeroDivisionError("the secret is 12345"), monkeypatch)
    outcome = sealrun("demo")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "Traceback" not in outcome.err
    kept = next(tmp_path.glob("sealrun-error-*"))
    assert str(kept) in outcome.err
    assert kept.stat().st_mode & 0o077 == 0
    assert "12345" not in kept.read_text() + outcome.err

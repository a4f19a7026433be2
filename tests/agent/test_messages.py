"""Bodies of the channel's calls: what is written is read back, anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.cid import cid_of
from agent.formats.measure import RANGES, answer_ranges, choose_ranges, measure_tree, tree_files
from agent.formats.messages import Context, Prepare, Question, Release
from agent.formats.outcome import Ending, Outcome, State, Status, Transcript
from agent.formats.p256 import SigningKey
from nodeclient.machine.measure import agent_folder

CONTEXT = Context(31337, b"\1" * 20, 7, b"\2" * 32, b"\3" * 20, 1, 0)
OUTCOME = Outcome(Ending.RAN, 3, {"first": cid_of(b"x")}, ("first",), ("UNNAMED_RECEIVER",), 2)
VALUES = [
    CONTEXT,
    Prepare(b"spec", CONTEXT, 3),
    Question(b"\4" * 32, CONTEXT, ((b"\5" * 20, b"\6" * 32, b"\7" * 32),), b"transcript"),
    Release(cid_of(b"x"), b"\x08" * 80),
    OUTCOME,
    replace(OUTCOME, status=Ending.TIMEOUT, exit_code=None, results={}),
    Status(State.DONE, (), 3, OUTCOME),
    Status(State.PREPARED, (cid_of(b"x"),), 0, None),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda each: type(each).__name__)
def test_body__written_and_read__the_same(value: Prepare) -> None:
    body = cbor.decode(cbor.encode(value.to_body()), 1 << 20)
    assert type(value).from_body(body) == value
    assert isinstance(body, dict)
    for damaged in (None, [], {}, body | {"more": 1}, dict(list(body.items())[1:])):
        with pytest.raises(FormatError):
            type(value).from_body(damaged)
    for name in body:
        with pytest.raises(FormatError):
            type(value).from_body(body | {name: -1})


@pytest.mark.parametrize("least", [0, 1, 2, 1025])
def test_prepare__fewer_answers_than_three__refused(least: int) -> None:
    """A Pi must not shorten the time in which members can ask."""
    body = Prepare(b"spec", CONTEXT, 3).to_body() | {"min_answers": least}
    with pytest.raises(FormatError, match="min_answers"):
        Prepare.from_body(body)


@pytest.mark.parametrize("field", ["chain_id", "market", "task", "commitment", "node"])
def test_context__another_field__another_task(field: str) -> None:
    value = getattr(CONTEXT, field)
    other = value + 1 if isinstance(value, int) else bytes(len(value))
    assert not CONTEXT.same_task(replace(CONTEXT, **{field: other}))
    assert CONTEXT.same_task(replace(CONTEXT, phase=3, attempt=9))


def _transcript(key: SigningKey) -> Transcript:
    answers = ((b"\1" * 32, b"\2" * 32),)
    return Transcript(
        *(bytes(32), key.public, CONTEXT, OUTCOME, answers),
        *({"containers": 1}, {"containers": True}),
    )


def test_transcript__signed__opens_the_same() -> None:
    key = SigningKey.generate()
    assert Transcript.open(_transcript(key).sign(key)) == _transcript(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda t, _: replace(t, checked={"containers": False}).sign(SigningKey.generate()),
        lambda t, k: t.sign(k)[:-1],
        lambda t, k: t.sign(k) + b"\0",
        lambda t, k: t.sign(k).replace(b"containers", b"c0ntainers"),
        lambda *_: b"",
    ],
)
def test_transcript__forged_or_damaged__refused(
    change: Callable[[Transcript, SigningKey], bytes],
) -> None:
    key = SigningKey.generate()
    with pytest.raises(FormatError):
        Transcript.open(change(_transcript(key), key))


def test_ranges__chosen_by_the_nonce__spread_over_the_tree() -> None:
    files = tree_files(agent_folder())
    one, other = choose_ranges(b"\1" * 32, files), choose_ranges(b"\2" * 32, files)
    assert len(one) == RANGES
    assert one != other
    sizes = dict(files)
    assert all(offset >= 0 and offset + length <= sizes[name] for name, offset, length in one)
    assert len({name for name, _, _ in one}) > RANGES // 2
    assert choose_ranges(b"\1" * 32, []) == []


def test_measure__any_change_of_the_tree__another_digest(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    first, answers = measure_tree(folder), answer_ranges(bytes(32), folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"cache")
    assert measure_tree(folder) == first
    (folder / "b").write_bytes(b"3")
    assert measure_tree(folder) != first
    assert answer_ranges(bytes(32), folder) != answers
    (folder / "b").rename(folder / "c")
    (folder / "c").write_bytes(b"2")
    assert measure_tree(folder) != first
    (folder / "d").symlink_to(folder / "a")
    with pytest.raises(FormatError, match="link"):
        measure_tree(folder)

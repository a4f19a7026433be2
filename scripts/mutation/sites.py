"""Every place at which a fixed operator changes a contract, found in Vyper's own syntax tree.

The operators:

=============== ==================================================================================
comparison      `<` to `<=`, `>=` to `>`, `==` to `!=` and back; `and` to `or`; `not x` to `x`
constant        an integer by one up, a Boolean to its opposite; sizes of types are left alone
removed-assert  an `assert` becomes `pass`
removed-write   an assignment to storage, or a statement that is a call (external call, internal
                call, `raw_call`, `log`), becomes `pass`
swapped         the operands of `-`, `//`, `%`, `<<`, `>>`, `**` and of `unsafe_sub`, `unsafe_div`
=============== ==================================================================================

Offsets come from the tree and from the token at them; where the two do not fit, `SiteError`.
"""

from __future__ import annotations

import hashlib
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vyper.ast import nodes as ast  # type: ignore[import-untyped]
from vyper.ast import parse_to_ast

ROOT: Final = Path(__file__).resolve().parents[2]
OPERATORS: Final = ("comparison", "constant", "removed-assert", "removed-write", "swapped")
_COMPARISONS: Final = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_DIRECTED: Final = (ast.Sub, ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift, ast.Pow)
_DIRECTED_CALLS: Final = ("unsafe_sub", "unsafe_div")
_BLANK: Final = (tokenize.NL, tokenize.COMMENT)


class SiteError(Exception):
    """Tree and tokens disagree about a place; the source needs a look before it is mutated."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed place: `source[start:end]` becomes `after`."""

    file: str  # from the root of the repository
    name: str  # TaskMarket.post:removed-assert#2; stays while other functions change
    operator: str
    line: int
    start: int
    end: int
    before: str
    after: str
    key: str  # of the mutated function or declaration: a result stays valid while that is the same

    def apply(self, source: str) -> str:
        """The mutated source."""
        if source[self.start : self.end] != self.before:
            raise SiteError(f"{self.file} has changed since its sites were listed; list them again")
        return source[: self.start] + self.after + source[self.end :]


@dataclass(frozen=True, slots=True)
class _Token:
    type: int
    text: str
    start: int
    end: int


class _Source:
    """A contract's text with its tokens by offset."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.tokens = [
            _Token(one.type, one.string, self.at(*one.start), self.at(*one.end))
            for one in tokenize.generate_tokens(io.StringIO(text).readline)
        ]
        self.index = {token.start: number for number, token in enumerate(self.tokens)}

    def at(self, line: int, column: int) -> int:
        """Offset of a position (lines from 1)."""
        return self.starts[line - 1] + column if line <= len(self.starts) else len(self.text)

    def start_of(self, node: Any) -> int:
        """Offset of a node's first token."""
        start = self.at(node.lineno, node.col_offset)
        if start not in self.index:
            raise SiteError(f"line {node.lineno}: no token begins where the tree says")
        return start

    def statement_end(self, start: int) -> int:
        """Offset behind the statement that begins at `start`."""
        for token in self.tokens[self.index[start] :]:
            if token.type == tokenize.NEWLINE:
                return token.start
        raise SiteError(f"offset {start}: statement without an end")

    def operator_before(self, start: int) -> _Token:
        """The operator in front of the right operand that begins at `start`."""
        number = self.index[start] - 1
        while self.tokens[number].type in _BLANK or self.tokens[number].text == "(":
            number -= 1
        return self.tokens[number]

    def operand_end(self, start: int, stop: set[str]) -> int:
        """Offset behind the operand that begins at `start`: where, outside of its own brackets,
        a bracket closes, a comma stands, or one of `stop` binds no tighter."""
        depth, last = 0, start
        for token in self.tokens[self.index[start] :]:
            if token.type in _BLANK:
                continue
            if token.type == tokenize.NEWLINE:
                return last
            if depth == 0 and (token.text in stop or token.text in (")", "]", "}", ",", ":")):
                return last
            depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
            last = token.end
        raise SiteError(f"offset {start}: operand without an end")


# What ends the right operand of an operator: operators that do not bind tighter, and keywords.
_LOOSE: Final = {
    "if", "else", "and", "or", "not", "in", "<", "<=", ">", ">=", "==", "!=", "=", "|", "^", "&",
}  # fmt: skip
_STOPS: Final = {
    "-": _LOOSE | {"<<", ">>", "+", "-"},
    "//": _LOOSE | {"<<", ">>", "+", "-", "*", "/", "//", "%"},
    "%": _LOOSE | {"<<", ">>", "+", "-", "*", "/", "//", "%"},
    "<<": _LOOSE | {"<<", ">>"},
    ">>": _LOOSE | {"<<", ">>"},
    "**": _LOOSE | {"<<", ">>", "+", "-", "*", "/", "//", "%"},
}
_OPERATOR_TEXT: Final = {
    ast.Sub: "-", ast.FloorDiv: "//", ast.Mod: "%", ast.LShift: "<<", ast.RShift: ">>",
    ast.Pow: "**",
}  # fmt: skip

_Change = tuple[str, int, int, str]  # operator, start, end, replacement


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All mutants of a contract or module, in the order of the source."""
    text = (root / file).read_text()
    source, tree = _Source(text), parse_to_ast(text)
    numbers: Counter[str] = Counter()
    found = []
    for scope, (first, last), node in _scoped(source, tree):
        for operator, start, end, after in _changes(source, node):
            name = f"{Path(file).stem}.{scope}:{operator}"
            numbers[name] += 1
            mutated = text[first:start] + after + text[end:last]
            found.append(
                Mutant(
                    file=file,
                    name=f"{name}#{numbers[name]}",
                    operator=operator,
                    line=text.count("\n", 0, start) + 1,
                    start=start,
                    end=end,
                    before=text[start:end],
                    after=after,
                    key=hashlib.sha256(f"{file}\0{mutated}".encode()).hexdigest()[:20],
                )
            )
    return found


def contract_files(root: Path) -> list[str]:
    """Contracts and modules, which are mutated; interfaces and mocks are not."""
    folders = (root / "contracts", root / "contracts" / "modules")
    return [str(one.relative_to(root)) for folder in folders for one in sorted(folder.glob("*.vy"))]


def _scoped(source: _Source, tree: Any) -> Iterator[tuple[str, tuple[int, int], Any]]:
    """Nodes that hold code, by function, each with the range of the text of that function, its
    decorators included; constants under the name `constants`."""
    for top in tree.body:
        lines = [one.lineno for one in (*getattr(top, "decorator_list", ()), top)]
        extent = source.starts[min(lines) - 1], source.at(top.end_lineno, top.end_col_offset)
        if isinstance(top, ast.FunctionDef):
            for statement in top.body:
                yield from ((top.name, extent, node) for node in _inside(statement))
        elif isinstance(top, ast.VariableDecl) and top.value is not None:
            yield from (("constants", extent, node) for node in _inside(top.value))


def _inside(node: Any) -> Iterator[Any]:
    """A node and what is below it, but no types."""
    yield node
    if isinstance(node, ast.AnnAssign):
        children = [node.value]
    elif isinstance(node, ast.For):
        # `bound=` is a size that the compiler needs, not a value
        arguments = node.iter.args if isinstance(node.iter, ast.Call) else [node.iter]
        children = [*arguments, *node.body]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("empty", "method_id"):
        children = []
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("convert", "extract32"):
        children = node.args[:1] if node.func.id == "convert" else node.args
    else:
        children = sorted(
            node.get_children(), key=lambda one: (one.lineno or 0, one.col_offset or 0)
        )
    for child in children:
        if child is not None and child.lineno is not None:
            yield from _inside(child)


def _position(node: Any) -> tuple[int, int]:
    return node.lineno or 0, node.col_offset or 0


def _changes(source: _Source, node: Any) -> Iterator[_Change]:
    if isinstance(node, ast.Compare) and not isinstance(node.op, (ast.In, ast.NotIn)):
        token = source.operator_before(source.start_of(node.right))
        if token.text not in _COMPARISONS:
            raise SiteError(f"line {node.lineno}: {token.text} is no comparison")
        yield "comparison", token.start, token.end, _COMPARISONS[token.text]
    elif isinstance(node, ast.BoolOp):
        for value in node.values[1:]:
            token = source.operator_before(source.start_of(value))
            yield "comparison", token.start, token.end, {"and": "or", "or": "and"}[token.text]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start = source.start_of(node)
        yield "comparison", start, start + len("not "), ""
    elif isinstance(node, ast.Int):
        start = source.start_of(node)
        text = source.tokens[source.index[start]].text
        yield "constant", start, start + len(text), str(int(text) + 1)
    elif isinstance(node, ast.NameConstant):
        start = source.start_of(node)
        text = source.tokens[source.index[start]].text
        yield "constant", start, start + len(text), {"True": "False", "False": "True"}[text]
    elif isinstance(node, ast.Assert):
        start = source.start_of(node)
        yield "removed-assert", start, source.statement_end(start), "pass"
    elif _writes(node):
        start = source.start_of(node)
        yield "removed-write", start, source.statement_end(start), "pass"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, _DIRECTED):
        yield _swapped(source, node)
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in _DIRECTED_CALLS:
        first, second = (source.start_of(one) for one in node.args)
        ends = (source.operand_end(first, set()), source.operand_end(second, set()))
        left, right = source.text[first : ends[0]], source.text[second : ends[1]]
        yield "swapped", first, ends[1], f"{right}, {left}"


def _swapped(source: _Source, node: Any) -> _Change:
    start = source.start_of(node)
    symbol = _OPERATOR_TEXT[type(node.op)]
    token = source.operator_before(source.start_of(node.right))
    if token.text != symbol:
        raise SiteError(f"line {node.lineno}: {token.text} is not {symbol}")
    begins = next(
        one.start
        for one in source.tokens[source.index[token.start] + 1 :]
        if one.type not in _BLANK
    )
    end = source.operand_end(begins, _STOPS[symbol])
    left, right = source.text[start : token.start].strip(), source.text[begins:end]
    return "swapped", start, end, f"({right}) {symbol} ({left})"


def _writes(node: Any) -> bool:
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        return _is_storage(node.target)
    return isinstance(node, (ast.Expr, ast.Log))


def _is_storage(target: Any) -> bool:
    while isinstance(target, (ast.Attribute, ast.Subscript)):
        target = target.value
    return isinstance(target, ast.Name) and target.id == "self"

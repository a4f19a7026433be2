"""An independent, strict reading of the text exposition format 0.0.4, from its specification
(prometheus.io, "Exposition formats"): what it refuses, a scraper may refuse, too."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """One metric as it was read."""

    name: str
    help: str = ""
    type: str = "untyped"
    samples: dict[Labels, float] = field(default_factory=dict)


def read(page: str) -> dict[str, Family]:
    """Every family by name. Raises ValueError for anything that the format does not allow."""
    if not page.endswith("\n"):
        raise ValueError("the last line has no end")
    found: dict[str, Family] = {}
    current: Family | None = None
    for line in page.removesuffix("\n").split("\n"):
        if line.startswith("# "):
            current = comment(line, current, found)
        elif line:
            sample(line, current)
    return found


def comment(line: str, current: Family | None, found: dict[str, Family]) -> Family:
    _, word, name, text = line.split(" ", 3)
    if NAME.fullmatch(name) is None:
        raise ValueError(f"bad name {name!r}")
    if word == "HELP":
        if name in found:
            raise ValueError(f"second HELP of {name}, or its lines are not together")
        found[name] = Family(name, unescape(text, quoted=False))
        return found[name]
    if word != "TYPE" or current is None or current.name != name or current.samples:
        raise ValueError(f"TYPE of {name} stands in the wrong place")
    if text not in TYPES:
        raise ValueError(f"no such type {text!r}")
    current.type = text
    return current


def sample(line: str, current: Family | None) -> None:
    match = NAME.match(line)
    if match is None or current is None or match[0] != current.name:
        raise ValueError(f"{line!r} does not belong to the family before it")
    labels, rest = read_labels(line[match.end() :])
    if not rest.startswith(" "):
        raise ValueError(f"no space before the value of {line!r}")
    if labels in current.samples:
        raise ValueError(f"{line!r} comes twice")
    current.samples[labels] = float(rest[1:])


def read_labels(text: str) -> tuple[Labels, str]:
    if not text.startswith("{"):
        return (), text
    pairs, at = [], 1
    while text[at] != "}":
        match = LABEL.match(text, at)
        if match is None or text[match.end() : match.end() + 2] != '="':
            raise ValueError(f"bad label at {text[at:]!r}")
        start = end = match.end() + 2
        while text[end] != '"':
            end += 2 if text[end] == "\\" else 1
        pairs.append((match[0], unescape(text[start:end], quoted=True)))
        at = end + 1
        if text[at] == ",":
            at += 1
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"a label comes twice in {text!r}")
    return tuple(pairs), text[at + 1 :]


def unescape(text: str, quoted: bool) -> str:
    known = {"\\": "\\", "n": "\n"} | ({'"': '"'} if quoted else {})
    out, at = [], 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
            out.append(known[text[at]])
        else:
            out.append(text[at])
        at += 1
    return "".join(out)

"""Small typed readers for decoded CBOR: every field is checked for type and bounds at the edge.

Each raises FormatError whose message names the field (`what`), so a refusal can be traced.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from agent.formats.cbor import FormatError

T = TypeVar("T")


def as_map(obj: object, keys: Collection[str], what: str) -> dict[str, object]:
    """A map with exactly these text keys: unknown ones are refused, not skipped."""
    if not isinstance(obj, dict) or set(obj) != set(keys):
        raise FormatError(f"{what}: expected a map of exactly {', '.join(sorted(keys))}")
    return obj


def as_list(obj: object, low: int, high: int, what: str) -> list[object]:
    """A list of `low` to `high` entries."""
    if not isinstance(obj, list) or not low <= len(obj) <= high:
        raise FormatError(f"{what}: expected a list of {low} to {high} entries")
    return obj


def as_bytes(obj: object, low: int, what: str, high: int | None = None) -> bytes:
    """A byte string of exactly `low` bytes, or of `low` to `high`."""
    top = low if high is None else high
    if not isinstance(obj, bytes) or not low <= len(obj) <= top:
        size = str(low) if low == top else f"{low} to {top}"
        raise FormatError(f"{what}: expected {size} bytes")
    return obj


def as_int(obj: object, low: int, high: int, what: str) -> int:
    """An integer in low..high, both included; booleans are no integers."""
    if isinstance(obj, bool) or not isinstance(obj, int) or not low <= obj <= high:
        raise FormatError(f"{what}: expected an integer from {low} to {high}")
    return obj


def as_text(obj: object, low: int, high: int, what: str) -> str:
    """Text of `low` to `high` characters, free of control characters."""
    if not isinstance(obj, str) or not low <= len(obj) <= high:
        raise FormatError(f"{what}: expected text of {low} to {high} characters")
    if any(ord(char) < 32 or ord(char) == 127 for char in obj):
        raise FormatError(f"{what}: control characters are not permitted")
    return obj


def as_path(obj: object, what: str) -> Path:
    """An absolute path in the one form that `Path` gives back."""
    text = as_text(obj, 1, 4096, what)
    path = Path(text)
    if not path.is_absolute() or str(path) != text:
        raise FormatError(f"{what}: expected a plain absolute path")
    return path


def unique(values: Collection[T], what: str) -> None:
    """Refuse a value that occurs twice."""
    if len(set(values)) != len(values):
        raise FormatError(f"{what}: an entry occurs twice; name each once")

"""What every table of ``config.toml`` is made of."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A table: unknown keys are refused, values stay as they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def kind_or(default: str) -> Callable[[object], object]:
    """What a table without ``kind`` is taken for."""

    def kind(value: object) -> object:
        found = value if isinstance(value, dict) else {}
        return found.get("kind", default) if found is value else getattr(value, "kind", None)

    return kind

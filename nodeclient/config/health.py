"""The table ``[health]`` of a Node's configuration: who is told how the Node is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from nodeclient.config.part import Part

_LISTEN = r"^(|(\[[0-9a-f:.]+\]|[^/\s:\[\]]+):[0-9]{1,5})$"


class HealthConfig(Part):
    """``listen``: host:port of the Prometheus endpoint; empty: none. The two files of the webhook:
    its URL, and the secret of its signatures; both or none.

    ``head_age_seconds``: how old the newest block may be; ``behind_blocks``: how many blocks may
    not be applied yet.
    """

    listen: Annotated[str, Field(pattern=_LISTEN)] = ""
    webhook_url_file: Path | None = None
    webhook_secret_file: Path | None = None
    head_age_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    behind_blocks: Annotated[int, Field(ge=0, le=1_000_000)] = 10

    @model_validator(mode="after")
    def _both_or_none(self) -> HealthConfig:
        """A webhook without a secret could be forged by whoever learns its URL."""
        if (self.webhook_url_file is None) != (self.webhook_secret_file is None):
            raise ValueError("webhook_url_file and webhook_secret_file belong together")
        return self

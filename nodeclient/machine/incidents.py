"""The Report of a Machine whose incidents nobody acts on."""

from __future__ import annotations

import logging

from nodeclient.core.incidents import Incident

_log = logging.getLogger(__name__)


def log_only(incident: Incident) -> None:
    """Say it in the log: a default, so that none is lost."""
    _log.warning("incident, %s: %s", incident.kind.value, incident.text)

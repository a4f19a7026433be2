"""What a daemon tells its operator: lines of ``node.log`` and of the sealed journal."""

from __future__ import annotations

import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from nodeclient.store.database import Store

log = logging.getLogger(__name__)
LOG_BYTES = 8 << 20  # of node.log, before it becomes node.log.1


def start_log(folder: Path) -> None:
    """Log to ``<node>/node.log``; libraries only from warnings on, they print what they send.

    Bounded, because peers cause lines: what they refuse and are refused is told, too.
    """
    file = RotatingFileHandler(folder / "node.log", maxBytes=LOG_BYTES, backupCount=2)
    logging.basicConfig(
        handlers=[file],
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("nodeclient").setLevel(logging.INFO)


def note(store: Store, commitment: bytes | None, what: str, private: str = "") -> None:
    """One line for the operator, never a secret: whole in the journal, which is sealed at rest;
    in the log, which people copy about, without ``private``: CIDs, names, hosts of a TaskSpec.
    """
    log.info("%s %s", commitment.hex()[:12] if commitment else "-", what)
    store.note(time.time(), commitment, what + private)  # type: ignore[arg-type]

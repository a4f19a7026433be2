"""Where the webhook's messages go, and which verdict was delivered last.

URL and secret stand in files of their own that nobody else may read: many receivers take whoever
knows the URL for the sender.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from nodeclient.errors import ConfigError
from nodeclient.files import FileRefused, read_private, replace_file

log = logging.getLogger(__name__)
PREFIX = "whsec_"
LEAST_SECRET, MOST_SECRET = 24, 64  # bytes (Standard Webhooks)
MOST_URL = 2048  # characters
MOST_MEMORY = 4096  # bytes
WRITE = "write it as docs/operating.md says"


@dataclass(frozen=True, slots=True)
class Target:
    """The receiver, and the key of the signatures."""

    url: str = field(repr=False)
    secret: bytes = field(repr=False)


def load_target(url_file: Path, secret_file: Path) -> Target:
    """Read and check both files. Raises ConfigError."""
    return Target(_url(_text(url_file), url_file), _secret(_text(secret_file), secret_file))


def _text(path: Path) -> str:
    try:
        return read_private(path).decode("ascii").strip()
    except FileRefused as error:
        step = "run `chmod 600` on it" if "others may read" in error.message else WRITE
        raise ConfigError(f"webhook: {error.message}", step) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"webhook: {path} is not ASCII", WRITE) from error


def _url(text: str, path: Path) -> str:
    try:
        url = URL(text)
    except ValueError as error:
        raise ConfigError(f"webhook: {path} holds no URL", WRITE) from error
    if len(text) > MOST_URL or url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"webhook: {path} holds no https URL", WRITE)
    if url.scheme == "http" and not _is_loopback(url.host):
        raise ConfigError(f"webhook: {path}: http leads to this host only", "use https")
    return text


def _is_loopback(host: str) -> bool:
    """An address, not a name: whoever owns a name may point it anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(text: str, path: Path) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"webhook: {path} is not base64", WRITE) from error
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET:
        wanted = f"{LEAST_SECRET} to {MOST_SECRET}"
        raise ConfigError(f"webhook: {path} holds {len(secret)} bytes, not {wanted}", WRITE)
    return secret


class Memory:
    """The words of the verdict that the receiver knows of; none: a healthy Node, or nothing yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def delivered(self) -> tuple[str, ...]:
        """A file that is missing or damaged costs one message too many, never one too few."""
        try:
            with self._path.open("rb") as file:
                words = json.loads(file.read(MOST_MEMORY))["delivered"]
            return tuple(str(word) for word in words)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return ()

    def keep(self, words: tuple[str, ...]) -> None:
        """A disk that is full costs a message after the next start."""
        try:
            replace_file(self._path, json.dumps({"delivered": words}).encode() + b"\n")
        except OSError as error:
            log.warning("webhook: %s cannot be written: %s", self._path.name, error.strerror)

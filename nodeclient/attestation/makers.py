"""The TPM makers that this Node believes: a folder of their root certificates, DER or PEM.

An empty or missing folder believes nobody. It is read whenever it is needed, so that a certificate
that the operator takes out counts no more from then on, also for proofs that were made before.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nodeclient.errors import BadInput
from nodeclient.files import read_given

MAX_FILES = 256
MAX_FILE = 64 << 10  # bytes; a PEM bundle of some thirty roots


class MakersUnreadable(BadInput):
    """A file among the makers' certificates is not one."""


def load_makers(folder: Path) -> tuple[bytes, ...]:
    """DER of every certificate in `folder`, sorted by file name. Raises MakersUnreadable.

    One bad file refuses the whole folder: an operator who meant to trust a maker must not find out
    by a task that fails.
    """
    try:
        names = sorted(folder.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise MakersUnreadable(f"{folder}: {error.strerror}", "check the path") from error
    files = [path for path in names if not path.name.startswith(".")]
    if len(files) > MAX_FILES:
        raise MakersUnreadable(f"{folder} holds more than {MAX_FILES} files", "take some out")
    return tuple(der for path in files for der in load_certificates(path))


def load_certificates(path: Path) -> tuple[bytes, ...]:
    """DER of the certificates in one file, in its order. Raises MakersUnreadable."""
    content = read_given(path, MAX_FILE, MakersUnreadable, "take it out")
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            found = x509.load_pem_x509_certificates(content)
        else:
            found = [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        raise MakersUnreadable(
            f"{path} holds no certificate", "write DER or PEM, and nothing else"
        ) from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)

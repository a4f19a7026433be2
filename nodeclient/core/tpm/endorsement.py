"""An EK certificate: some maker says that this key lives in a TPM of its make.

Sources: RFC 5280, TCG EK Credential Profile 2.x. Judged without a clock: a certificate that ran out
says the same of the same chip, and makers let them run out; whom the Node stops trusting, it takes
from its list of roots. Without roots nobody is trusted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.formats.endorsement import MAX_CERTIFICATE, MAX_CERTIFICATES
from agent.formats.hashes import sha256
from nodeclient.core.tpm.public import EkKey, parse_endorsement_key
from nodeclient.core.tpm.reader import TpmError

MAX_ROOTS = 256
_EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LEAST_RSA = 2048  # bits
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.DuplicateExtension, x509.InvalidVersion),  # neither is a ValueError
)
E = TypeVar("E", bound=x509.ExtensionType)


class EndorsementError(TpmError):
    """A chain that shows nothing: unknown maker, another key, or not a certificate for an EK."""


def check_endorsement(chain: Sequence[bytes], public: bytes, roots: Collection[bytes]) -> EkKey:
    """The EK itself, ready for a credential, if a trusted maker certified it.

    chain: DER certificates, the EK's first, each signed by the next. public: the EK's TPMT_PUBLIC.
    roots: DER certificates that the asker trusts, of roots or of intermediates. Raises
    EndorsementError, or TpmError for a public area out of shape.
    """
    key = parse_endorsement_key(public)
    certificates, trusted = _load_all(chain, roots)
    _check_leaf(certificates[0], key)
    for depth, (der, certificate) in enumerate(zip(chain, certificates, strict=True)):
        if der in trusted:  # also the EK's own: no trust is more explicit
            return key
        if any(_issued(certificate, root, depth) for root in trusted.values()):
            return key
        if depth + 1 < len(chain) and not _issued(certificate, certificates[depth + 1], depth):
            raise EndorsementError("endorsement: a certificate is not signed by the next one")
    raise EndorsementError("endorsement: the EK's maker is not trusted; add its root to trust it")


def believed_above(chain: Sequence[bytes], roots: Collection[bytes]) -> tuple[bytes, ...]:
    """Every certificate of ``roots`` that stands over the EK's, or is it; the topmost comes first.

    Arguments as of `check_endorsement`, which has accepted them. A link may be carried or believed:
    a certificate that a TPM leaves out changes nothing as long as ``roots`` has it. Where several
    are topmost (a maker renewed its root, or had it signed by another) the one of the lowest
    SHA-256 is first, so that all who believe the same find the same. Raises EndorsementError.
    """
    certificates, trusted = _load_all(chain, roots)
    known = dict(zip(chain, certificates, strict=True)) | trusted
    issuers: dict[bytes, set[bytes]] = {}
    level, depth = {chain[0]}, 0
    while level:
        for der in level:
            issuers[der] = {one for one in known if _issued(known[der], known[one], depth)}
        # Each by its shortest way: a maker's limit on a chain's length is kept if one way keeps it.
        level = {over for der in level for over in issuers[der]} - issuers.keys()
        depth += 1
    above = {
        der: _closure(der, issuers) & trusted.keys() for der in issuers.keys() & trusted.keys()
    }
    topmost = [der for der, over in above.items() if all(der in above[one] for one in over)]
    return tuple(sorted(above, key=lambda der: (der not in topmost, sha256(der))))


def _closure(der: bytes, issuers: Mapping[bytes, Collection[bytes]]) -> set[bytes]:
    """A certificate and all above it."""
    found, new = {der}, {der}
    while new:
        new = {over for one in new for over in issuers[one]} - found
        found |= new
    return found


def _load_all(
    chain: Sequence[bytes], roots: Collection[bytes]
) -> tuple[list[x509.Certificate], dict[bytes, x509.Certificate]]:
    if not 1 <= len(chain) <= MAX_CERTIFICATES:
        raise EndorsementError(
            f"endorsement: 1 to {MAX_CERTIFICATES} certificates, not {len(chain)}"
        )
    if len(roots) > MAX_ROOTS:
        raise EndorsementError(f"endorsement: {len(roots)} roots exceed {MAX_ROOTS}; trust fewer")
    return [_load(der) for der in chain], {der: _load(der) for der in roots}


def _load(der: bytes) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE:
        raise EndorsementError(f"endorsement: a certificate exceeds {MAX_CERTIFICATE} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed when first used, and each fails in its own way.
        _ = certificate.extensions, certificate.public_key(), certificate.signature_hash_algorithm
    except _UNREADABLE as error:
        raise EndorsementError("endorsement: a certificate does not parse") from error
    if certificate.version is not x509.Version.v3:
        raise EndorsementError("endorsement: a certificate is not of version 3")
    return certificate


def _check_leaf(certificate: x509.Certificate, key: EkKey) -> None:
    """The certificate is for an EK, and for this one."""
    if certificate.public_key() != key:
        raise EndorsementError("endorsement: the certificate is of another endorsement key")
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise EndorsementError("endorsement: the EK's certificate is that of an authority")
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and _EK_USAGE not in purposes:
        raise EndorsementError("endorsement: the certificate is not one for endorsement keys")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not (usage.key_encipherment or usage.key_agreement):
        raise EndorsementError("endorsement: the certificate does not permit encryption")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, depth: int) -> bool:
    """Whether ``issuer`` is an authority that signed it; ``depth`` authorities are below itself."""
    constraints = _extension(issuer, x509.BasicConstraints)
    usage = _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca:
        return False
    if constraints.path_length is not None and depth > constraints.path_length:
        return False
    if usage is not None and not usage.key_cert_sign:
        return False
    if not isinstance(certificate.signature_hash_algorithm, _HASHES):
        return False
    signer = issuer.public_key()
    if not isinstance(signer, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return False
    if isinstance(signer, rsa.RSAPublicKey) and signer.key_size < _LEAST_RSA:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None

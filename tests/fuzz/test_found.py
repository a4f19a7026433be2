"""What fuzzing found, kept: one input for each fault."""

from __future__ import annotations

import pytest

from nodeclient.core.tpm.endorsement import EndorsementError, check_endorsement
from tests.fuzz.targets import targets

ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")  # OID 1.2.840.10045.4.3.2, DER


def test_certificate__signature_algorithm_that_is_none__typed_error() -> None:
    """cryptography names the algorithm only when it is first asked for, and raises then."""
    target = targets()["EK certificate"]
    leaf, _root = target.samples
    unknown = leaf.replace(ECDSA_SHA256, bytes.fromhex("06082a8648ce99040302"))
    assert unknown.count(b"\xce\x99\x04\x03\x02") == 2
    with pytest.raises(EndorsementError, match="does not parse"):
        target.parse(unknown)
    with pytest.raises(EndorsementError, match="does not parse"):
        check_endorsement((leaf,), targets()["endorsement key"].samples[0], (unknown,))


@pytest.mark.parametrize("name", ["certificate", "EK certificate"])
def test_certificate__version_that_is_none__typed_error(name: str) -> None:
    target = targets()[name]
    sample = target.samples[0]
    version = bytes.fromhex("a003020102")  # [0] INTEGER 2: version 3
    assert sample.count(version) == 1
    with pytest.raises(target.errors):
        target.parse(sample.replace(version, bytes.fromhex("a003020148")))

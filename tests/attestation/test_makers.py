"""The folder of TPM makers that a node believes."""

from pathlib import Path

import pytest

from nodeclient.attestation.makers import MAX_FILE, MAX_FILES, MakersUnreadable, load_makers
from tests.attestation.authority import Maker

FIRST, SECOND = Maker("first"), Maker("second")


def test_makers__no_folder_or_an_empty_one__believes_nobody(tmp_path: Path) -> None:
    assert load_makers(tmp_path / "none") == ()
    assert load_makers(tmp_path) == ()


def test_makers__der_and_bundles_of_pem__are_all_taken(tmp_path: Path) -> None:
    (tmp_path / "a.der").write_bytes(FIRST.der)
    (tmp_path / "b.pem").write_bytes(SECOND.pem + FIRST.pem)
    (tmp_path / ".hidden").write_bytes(b"left by an editor")
    assert load_makers(tmp_path) == (FIRST.der, SECOND.der, FIRST.der)


@pytest.mark.parametrize(
    "content",
    [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x30\x82" * 9],
)
def test_makers__one_file_that_is_no_certificate__refuses_all(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.der").write_bytes(FIRST.der)
    (tmp_path / "b.pem").write_bytes(content)
    with pytest.raises(MakersUnreadable, match=r"b\.pem.*; write DER or PEM"):
        load_makers(tmp_path)


def test_makers__file_or_folder_beyond_its_bound__is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    (large / "a.pem").write_bytes(FIRST.pem + b"\n" * MAX_FILE)
    with pytest.raises(MakersUnreadable, match="64 KiB"):
        load_makers(large)
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.der").touch()
    with pytest.raises(MakersUnreadable, match="more than"):
        load_makers(tmp_path)


def test_makers__folder_inside__is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    with pytest.raises(MakersUnreadable, match="more"):
        load_makers(tmp_path)

"""What a TPM says of itself: maker, firmware, lockout, endorsement key and its certificates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tpm2_pytss import TSS2_Exception
from tpm2_pytss.constants import (
    ESYS_TR,
    TPM2_CAP,
    TPM2_PT,
    TPM2_PT_FIRMWARE,
    TPM2_PT_VENDOR,
    TPM2_RC,
    TPM2_SE,
    TPMA_PERMANENT,
)
from tpm2_pytss.types import TPM2B_ENCRYPTED_SECRET, TPM2B_ID_OBJECT
from tpm2_pytss.utils import NoSuchIndex, NVReadEK, create_ek_template

from agent.formats.endorsement import MAX_CERTIFICATE, MAX_CERTIFICATES, Challenge, Endorsement
from nodeclient.roots.base import RootError
from nodeclient.roots.tpm2.device import Turn
from nodeclient.roots.tpm2.faults import code_of, is_about_content

# The RSA key first: nearly every chip has a certificate for it, so that a chip has one identity
# and not two.
EK_KINDS = ("EK-RSA2048", "EK-ECC256")
_CHAIN = range(0x01C00100, 0x01C00200)  # EK Credential Profile, §2.2.1.5: certificates of issuers
_NV_FIRST, _NV_END, _AT_ONCE = 0x01000000, 0x02000000, 64
_MAX_INDEX = MAX_CERTIFICATE * MAX_CERTIFICATES  # bytes of one NV index that are read
_SOFTWARE = "SW"  # what libtpms, the engine of swtpm, writes where a chip has its model


@dataclass(frozen=True, slots=True)
class Chip:
    """``simulated``: it calls itself software. ``text``: one line for people."""

    simulated: bool
    text: str


def describe(turn: Turn) -> Chip:
    """Ask for maker, model, firmware and lockout (Part 2, §6.13 and §8.6)."""
    fixed = _properties(turn, TPM2_PT.FIXED)
    maker = _characters(fixed.get(TPM2_PT.MANUFACTURER, 0))
    model = "".join(
        _characters(fixed.get(TPM2_PT_VENDOR.STRING_1 + number, 0)) for number in range(4)
    )
    version = fixed.get(TPM2_PT_FIRMWARE.VERSION_1, 0)
    permanent = _properties(turn, TPM2_PT.VAR).get(TPM2_PT.PERMANENT, 0)
    simulated = model.split()[:1] == [_SOFTWARE] or model.startswith(_SOFTWARE)
    text = f"TPM 2.0 {maker.strip()} {model.strip()} {version >> 16}.{version & 0xFFFF}"
    if simulated:
        text += ", software, simulated"
    if permanent & TPMA_PERMANENT.INLOCKOUT:
        text += "; in dictionary-attack lockout, which this node's keys are exempt from"
    return Chip(simulated, text)


class EndorsementKeys:
    """The EKs that were derived so far, kept as the TPM's own contexts: an RSA one takes a real
    TPM some ten seconds, and each member of a committee asks for it. For the device's thread only.
    """

    def __init__(self) -> None:
        self._saved: dict[str, tuple[bytes, Any]] = {}

    def load(self, turn: Turn, kind: str, template: Any) -> tuple[Any, bytes]:
        """(handle for this turn, TPMT_PUBLIC)."""
        public, context = self._saved.get(kind, (b"", None))
        handle = turn.restore(context)
        if handle is None:
            handle, made, *_ = turn.esys.create_primary(None, template, ESYS_TR.ENDORSEMENT)
            turn.keep(handle)
            public = bytes(made.publicArea.marshal())
            self._saved[kind] = public, turn.esys.context_save(handle)
        return handle, public


def endorse(turn: Turn, key: bytes, eks: EndorsementKeys) -> Endorsement:
    """The EK, its certificates and ``key`` (TPMT_PUBLIC of the root key)."""
    shelf = Shelf(turn)
    made = [(kind, *create_ek_template(kind, shelf.read)) for kind in EK_KINDS]
    kind, leaf, template = next((each for each in made if each[1]), made[0])
    _, ek = eks.load(turn, kind, template)
    chain = b"".join(shelf.read(index) for index in sorted(shelf.present) if index in _CHAIN)
    certificates = [*split_certificates(leaf or b"")[:1], *split_certificates(chain)]
    return Endorsement(tuple(certificates[:MAX_CERTIFICATES]), ek, key)


def activate(turn: Turn, key: Any, ek: bytes, challenge: Challenge, eks: EndorsementKeys) -> bytes:
    """TPM2_ActivateCredential. Raises RootError: sealed for another EK or another key."""
    shelf = Shelf(turn)
    for kind in EK_KINDS:
        _, template = create_ek_template(kind, shelf.read)
        handle, public = eks.load(turn, kind, template)
        if public == ek:
            break
        turn.flush(handle)
    session = turn.plain_session(TPM2_SE.POLICY)
    turn.esys.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
    try:
        blob, _ = TPM2B_ID_OBJECT.unmarshal(challenge.blob)
        secret, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(challenge.secret)
        return bytes(turn.esys.activate_credential(key, handle, blob, secret, session2=session))
    except (TSS2_Exception, ValueError) as error:
        # libtpms says FAILURE of what another endorsement key would decrypt, and goes on.
        if isinstance(error, TSS2_Exception) and not (
            is_about_content(error) or code_of(error) == TPM2_RC.FAILURE
        ):
            raise
        raise RootError(
            "root: the challenge is not for this TPM and this root key", "ask for another one"
        ) from None


def split_certificates(data: bytes) -> list[bytes]:
    """DER certificates that stand one after the other; what follows the last is padding.

    X.690 §8.1: a SEQUENCE, and its length in the long form of two bytes that their size needs.
    """
    found: list[bytes] = []
    while data[:2] == b"\x30\x82":
        size = 4 + int.from_bytes(data[2:4], "big")
        if not 4 < size <= min(MAX_CERTIFICATE, len(data)):
            break
        found.append(data[:size])
        data = data[size:]
    return found


class Shelf:
    """The places of a TPM where its maker puts certificates and templates: its NV indices."""

    def __init__(self, turn: Turn) -> None:
        self._turn, self._reader = turn, NVReadEK(turn.esys)
        self.present = frozenset(self._indices())

    def read(self, index: int) -> bytes:
        """One that anybody may read. Raises NoSuchIndex, and RootError for one that is no
        certificate's."""
        if index not in self.present:
            raise NoSuchIndex(index)
        esys = self._turn.esys
        area, _ = esys.nv_read_public(esys.tr_from_tpmpublic(index))
        size = area.nvPublic.dataSize
        if size > _MAX_INDEX:
            raise RootError(
                f"root: NV index {index:#x} has {size} bytes", "look at it: tpm2_nvreadpublic"
            )
        return bytes(self._reader(index))

    def _indices(self) -> Iterator[int]:
        """Handles are told a part at a time, ascending (Part 3, §30.2)."""
        first, more = _NV_FIRST, True
        while more and first < _NV_END:
            more, found = self._turn.esys.get_capability(TPM2_CAP.HANDLES, first, _AT_ONCE)
            handles = [int(handle) for handle in found.data.handles]
            yield from handles
            if not handles:
                return
            first = handles[-1] + 1


def _properties(turn: Turn, first: int) -> dict[int, int]:
    _, found = turn.esys.get_capability(TPM2_CAP.TPM_PROPERTIES, first, 64)
    return {int(each.property): int(each.value) for each in found.data.tpmProperties}


def _characters(value: int) -> str:
    """Four characters in an integer; whatever cannot be printed is left out."""
    return "".join(chr(byte) for byte in value.to_bytes(4, "big") if 32 <= byte < 127)

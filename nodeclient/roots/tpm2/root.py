"""A root of trust in a TPM 2.0, over tpm2-tss (ESAPI).

The root key is born in the TPM and never leaves it. Its private part lies in the node's folder,
wrapped by a storage key that the TPM derives anew from its owner seed: nothing of ours is kept in
the TPM's few places, so nothing has to be freed there when a node goes, and a file that is copied
away is of use in this TPM alone. The storage key's Name is compared each time: secrets are
encrypted to it on their way over the bus, and an interposer could hand in a key of its own.

A secret is encrypted by a data key of its own, which the TPM seals; the label is bound as
associated data. So one data key that leaks opens one secret. With ``pcrs`` the TPM gives it back
only while these registers read as they did; which ones stands in the sealed bytes, so that another
choice in the configuration locks nobody out.

What it does not do: TPMs have no perimeter, so `tampered` is never said. Whoever can talk to the
TPM as this user and reads the node's folder can have it sign and unseal, as the node does.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss.constants import TPM2_ALG, TPM2_RC, TPM2_RH, TPM2_SE, TPM2_ST
from tpm2_pytss.types import (
    TPM2B_SENSITIVE_CREATE,
    TPMS_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
)

from agent.formats import p256
from agent.formats.cbor import FormatError
from agent.formats.endorsement import Challenge, Endorsement
from agent.formats.hashes import keccak256
from agent.formats.shape import as_bytes
from nodeclient.config.root import Tpm2RootConfig
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.tpm.public import parse_root_key
from nodeclient.core.types import RootClass
from nodeclient.files import FileRefused, write_new
from nodeclient.roots.base import RootError, RootQueued, UnsealError
from nodeclient.roots.tpm2 import objects
from nodeclient.roots.tpm2.chip import Chip, EndorsementKeys, activate, describe, endorse
from nodeclient.roots.tpm2.device import Device, Open, Turn
from nodeclient.roots.tpm2.faults import code_of, is_about_content
from nodeclient.roots.tpm2.held import Held, make_key
from nodeclient.roots.tpm2.objects import KEY_FILE, KeyFile
from nodeclient.roots.tpm2.pcrs import pcr_policy
from nodeclient.roots.tpm2.sealed import DATA_KEY, Sealed

# An RSA endorsement key is two primes that the TPM has to search for: ten seconds on many chips, up
# to 40 on slow ones. It is derived when a node is made, and once per start.
EK_SECONDS = 120.0
_MOST_AT_ONCE = 32  # random bytes; every TPM gives so many in one answer
_CHANGED = frozenset({TPM2_RC.POLICY_FAIL, TPM2_RC.PCR_CHANGED})


class Tpm2Root:
    """Implements `nodeclient.ports.Root`."""

    class_id = int(RootClass.TPM2)

    def __init__(self, device: Device, file: KeyFile, pcrs: frozenset[int]) -> None:
        self._device, self._file, self._pcrs = device, file, pcrs
        self._public = parse_root_key(file.public[2:]).point
        self._held = Held(file)
        self._eks = EndorsementKeys()
        self._endorsement: Endorsement | None = None
        self._last_random = b""
        self._chip: Chip

    @classmethod
    def create(
        cls, folder: Path, config: Tpm2RootConfig, open_esys: Open | None = None
    ) -> Tpm2Root:
        """Make the root key. Raises RootError; nothing is replaced, and nothing left after it."""
        path = folder / KEY_FILE
        if path.exists():
            raise RootError(f"root: {path}: exists already", "choose another folder")
        device = _device(config, open_esys)
        try:
            file = device.turn(make_key, "making the root key")
            root = cls._opened(device, file, config)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_new(path, file.encode())
        except FileRefused as error:
            device.close()
            raise RootError(f"root: {error.message}", error.next_step) from error
        except OSError as error:
            device.close()
            raise RootError(f"root: {folder}: {error.strerror}", "check the folder") from error
        except BaseException:
            device.close()
            raise
        return root

    @classmethod
    def load(cls, folder: Path, config: Tpm2RootConfig, open_esys: Open | None = None) -> Tpm2Root:
        """Open the root key in ``folder``. Raises RootError: no file, no TPM, or not this TPM's."""
        file = KeyFile.load(folder / KEY_FILE)
        device = _device(config, open_esys)
        try:
            return cls._opened(device, file, config)
        except BaseException:
            device.close()
            raise

    @classmethod
    def _opened(cls, device: Device, file: KeyFile, config: Tpm2RootConfig) -> Tpm2Root:
        try:
            root = cls(device, file, config.pcrs)
        except FormatError as error:
            raise RootError(f"root: {KEY_FILE}: {error}", "restore it from a backup") from error
        root._chip = device.turn(root._look, "opening the root key")
        return root

    @property
    def simulated(self) -> bool:
        """True for a TPM in software, as far as it says so itself: a name, no proof."""
        return self._chip.simulated

    def public_key(self) -> bytes:
        """X‖Y, 64 bytes."""
        return self._public

    def hardware_id(self) -> bytes:
        """keccak256 of the endorsement key's TPMT_PUBLIC: one per chip, whatever keys it holds."""
        return keccak256(self._endorse().ek)

    def sign(self, digest: bytes) -> bytes:
        """r‖s with low s over a 32-byte digest, verified before it is given away.

        Without a session: a digest is no secret, and an altered one does not verify.
        """
        as_bytes(digest, 32, "digest")

        def work(turn: Turn) -> bytes:
            made = turn.esys.sign(
                self._held.key(turn),
                digest,
                TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),  # the key's own
                TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL),
            )
            # What hangs below is a view of `made`, which has to live as long.
            pair = made.signature.ecdsa
            return b"".join(
                bytes(half).rjust(32, b"\0") for half in (pair.signatureR, pair.signatureS)
            )

        signature = lower(self._device.turn(work, "signing"))
        if not p256.verify(self._public, digest, signature):
            raise RootError(
                "root: the TPM's signature does not verify", "replace the TPM: it computes wrongly"
            )
        return signature

    def random(self, size: int) -> bytes:
        """Bytes of the TPM's generator, encrypted on the bus. Raises RootError for a generator that
        repeats itself (SP 800-90B, §4.4.1: the repetition count test, on whole answers)."""

        def work(turn: Turn) -> bytes:
            session = turn.shared_session(self._held.parent(turn))
            found = b""
            while len(found) < size:
                wanted = min(_MOST_AT_ONCE, size - len(found))
                part = bytes(turn.esys.get_random(wanted, session1=session))
                if not 0 < len(part) <= wanted:
                    raise RootError("root: the TPM gives no random numbers", "replace the TPM")
                if len(part) >= 8 and part == self._last_random:
                    raise RootError("root: the TPM's random numbers repeat", "replace the TPM")
                self._last_random = part
                found += part
            return found

        return self._device.turn(work, "random numbers")

    def seal(self, plain: bytes, label: str) -> bytes:
        """`sealed.Sealed`, encoded."""
        pcrs = self._pcrs

        def work(turn: Turn) -> tuple[bytes, bytes, bytes]:
            parent = self._held.parent(turn)
            session = turn.shared_session(parent)
            key = ChaCha20Poly1305.generate_key()
            private, public, *_ = turn.esys.create(
                parent,
                TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=key)),
                objects.sealed_object(pcr_policy(turn, pcrs)),
                session1=session,
            )
            return bytes(public.marshal()), bytes(private.marshal()), key

        public, private, key = self._device.turn(work, "sealing")
        return Sealed.encrypt(pcrs, public, private, key, plain, label).encode()

    def unseal(self, sealed: bytes, label: str) -> bytes:
        """Open what `seal` made under the same label. Raises UnsealError, RootError."""
        refused = UnsealError(
            f"root: sealed bytes for {label!r} do not open", "restore them from a backup"
        )
        try:
            parsed = Sealed.decode(sealed)
            public = objects.public_of(parsed.public)
            private = objects.private_of(parsed.private)
        except FormatError:
            raise refused from None

        def work(turn: Turn) -> bytes:
            parent = self._held.parent(turn)
            try:
                handle = turn.keep(turn.esys.load(parent, private, public))
                kind = TPM2_SE.POLICY if parsed.pcrs else TPM2_SE.HMAC
                session = turn.shared_session(parent, kind)
                if parsed.pcrs:
                    turn.esys.policy_pcr(session, b"", objects.selection(parsed.pcrs))
                return bytes(turn.esys.unseal(handle, session1=session))
            except TSS2_Exception as error:
                if parsed.pcrs and code_of(error) in _CHANGED:
                    raise UnsealError(
                        f"root: PCRs {', '.join(map(str, sorted(parsed.pcrs)))} are not as they "
                        f"were when {label!r} was sealed",
                        "start the software that was measured then; else restore from a backup",
                    ) from None
                if is_about_content(error) or code_of(error) == TPM2_RC.AUTH_UNAVAILABLE:
                    raise refused from None
                raise

        key = self._device.turn(work, "unsealing")
        try:
            return parsed.decrypt(as_bytes(key, DATA_KEY, "data key"), label)
        except (InvalidTag, FormatError):
            raise refused from None

    def health(self) -> RootHealth:
        """Whether the TPM answers and still holds this node's key."""
        try:
            chip = self._device.turn(self._look, "asking how it is")
        except RootQueued:
            raise  # says nothing about the device
        except RootError as error:
            return RootHealth(False, False, str(error))
        return RootHealth(True, False, chip.text)

    def endorsement(self) -> bytes:
        """`agent.formats.endorsement.Endorsement`: certificates of the EK, the EK, the root key."""
        return self._endorse().encode()

    def activate(self, challenge: Challenge) -> bytes:
        """The secret that was sealed for this EK and this root key together (Part 3, §12.5).

        Raises RootError if it was sealed for others.
        """
        ek = self._endorse().ek
        return self._device.turn(
            lambda turn: activate(turn, self._held.key(turn), ek, challenge, self._eks),
            "credential activation",
            EK_SECONDS,
        )

    def close(self) -> None:
        """Let go of the TPM; what it holds for us it holds encrypted."""
        self._device.close()

    def _endorse(self) -> Endorsement:
        if self._endorsement is None:
            key = self._file.public[2:]
            self._endorsement = self._device.turn(
                lambda turn: endorse(turn, key, self._eks), "reading the endorsement", EK_SECONDS
            )
        return self._endorsement

    def _look(self, turn: Turn) -> Chip:
        self._held.key(turn)
        return describe(turn)


def lower(signature: bytes) -> bytes:
    """The same signature with s in the lower half; what is none stays as it is."""
    r, s = signature[:32], int.from_bytes(signature[32:], "big")
    return r + (p256.ORDER - s).to_bytes(32, "big") if 2 * s > p256.ORDER > s else signature


def _device(config: Tpm2RootConfig, open_esys: Open | None) -> Device:
    return Device(open_esys or (lambda: ESAPI(config.tcti)), config.patience_seconds)

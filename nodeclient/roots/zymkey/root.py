"""A Zymbit Zymkey as root of trust: the P-256 key of its slot 0, its lock, its perimeter.

It is an HSM and no TPM: it measures nothing, and no certificate of its maker says where a key
lives. What it gives: the key cannot be copied off it, what is locked opens on this device only, and
it notices that the case was opened. Once such a breach was seen, this root does nothing any more,
also after a restart and when somebody clears the device's record of it: a file of the Node's
remembers it until its operator lifts that. One thing is left to a Node that starts: to unseal the
key of its account, so that it can leave the draw. Whoever opened the case has the device, and could
have unsealed it, too.

A locked record has no label and a device is slow with much: so only a fresh data key is locked, and
the content lies under it in ChaCha20-Poly1305 (RFC 8439) with the label as associated data. Each
data key covers one content, so its nonce is always zero.

What to do at a breach (notify, destroy the keys) is the operator's setting in the device. It is not
touched from here: the one call that sets it would also take a self-destruct away.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from agent.formats import p256
from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256, sha256
from nodeclient.config.root import ZymkeyRootConfig
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import RootClass
from nodeclient.core.zymkey import STAND_IN, Binding, ZymkeyEndorsement
from nodeclient.files import FileRefused, read_private, write_new
from nodeclient.finding import Finding
from nodeclient.memory import wipe
from nodeclient.roots.base import BREACH_FILE, RootError, RootTampered, UnsealError
from nodeclient.roots.zymkey.link import ZymkeyLink
from nodeclient.roots.zymkey.perimeter import Perimeter

PUBLIC_FILE = "zymkey.pub"  # X‖Y in hexadecimal: which device this Node was made with
_SEAL = b"sealrun/zymkey-root/seal/v1:"
_VERSION = b"\x01"
_KEY_BYTES = 32
_MOST_LOCKED = 4096  # bytes of a locked data key
_AT_ONCE = 512  # random bytes per question
_REPEAT = 8  # bytes from which on a repetition is a fault and no chance


class ZymkeyRoot:
    """Implements `nodeclient.ports.Root` on an attached Zymkey."""

    class_id = int(RootClass.ZYMKEY)

    def __init__(self, link: ZymkeyLink, public: bytes, perimeter: Perimeter) -> None:
        self._link = link
        self._public = public
        self._perimeter = perimeter
        self._leaving = False
        self._last_random = b""
        self.simulated = _text(link.ask(b"M")).startswith(STAND_IN)

    @classmethod
    def create(
        cls, folder: Path, config: ZymkeyRootConfig, link: ZymkeyLink | None = None
    ) -> ZymkeyRoot:
        """Note in `folder` which device it is: its key was made when the device was.

        Raises RootError: no sound device, or a root exists already; then nothing is written.
        """
        if (folder / PUBLIC_FILE).exists():
            raise RootError(f"root: {folder / PUBLIC_FILE} exists", "choose a new folder")
        root = cls._open(config, link)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_new(folder / PUBLIC_FILE, root.public_key().hex().encode() + b"\n")
            root._perimeter.finding = Finding(folder / BREACH_FILE)
        except BaseException as error:
            root.close()
            if isinstance(error, FileRefused):
                raise RootError(f"root: {error.message}", error.next_step) from error
            if isinstance(error, OSError):
                raise RootError(f"root: {folder}: {error.strerror}", "check the folder") from error
            raise
        return root

    @classmethod
    def load(
        cls,
        folder: Path,
        config: ZymkeyRootConfig,
        link: ZymkeyLink | None = None,
        *,
        leaving: bool = False,
    ) -> ZymkeyRoot:
        """Open the device that `folder` was made with. Raises RootError: missing, another one.

        `leaving`: a breached one, too. It only unseals then, and its health says "tampered".
        """
        try:
            noted = read_private(folder / PUBLIC_FILE).strip()
        except FileRefused as error:
            raise RootError(f"root: {error.message}", error.next_step) from error
        root = cls._open(config, link, Finding(folder / BREACH_FILE), leaving)
        if root.public_key().hex().encode() != noted:
            root.close()
            raise _another()
        return root

    @classmethod
    def _open(
        cls,
        config: ZymkeyRootConfig,
        link: ZymkeyLink | None,
        finding: Finding | None = None,
        leaving: bool = False,
    ) -> ZymkeyRoot:
        link = link or ZymkeyLink(config.library, config.patience_seconds)
        try:
            perimeter = Perimeter(link, config.perimeter, finding)
            root = cls(link, _public_key(link), perimeter)
            try:
                root.sign(sha256(b"sealrun: is the key there?"))  # locked ones show their public
            except RootTampered:
                if not leaving:
                    raise
                root._leaving = True
        except BaseException:
            link.close()
            raise
        return root

    def public_key(self) -> bytes:
        """X‖Y of slot 0, 64 bytes."""
        return self._public

    def hardware_id(self) -> bytes:
        """keccak256 of X‖Y: the key of slot 0 is made with the device and never another."""
        return keccak256(self._public)

    def sign(self, digest: bytes) -> bytes:
        """r‖s with low s over a 32-byte digest; the device gives either s."""
        if len(digest) != 32:
            raise RootError(f"root: a digest has 32 bytes, not {len(digest)}", "hash it first")
        self._perimeter.check()
        raw = self._link.ask(b"S", digest)
        s = int.from_bytes(raw[32:], "big")
        signature = raw[:32] + min(s, max(p256.ORDER - s, 0)).to_bytes(32, "big")
        if len(raw) != 64 or not p256.verify(self._public, digest, signature):
            raise RootError("root: the Zymkey's signature does not verify", "replace the device")
        return signature

    def random(self, size: int) -> bytes:
        """Bytes of the device's generator. Raises RootError if it repeats itself."""
        self._perimeter.check()
        found = b""
        while len(found) < size:
            wanted = min(size - len(found), _AT_ONCE)
            part = self._link.ask(b"R", wanted.to_bytes(4, "big"))
            stuck = wanted >= _REPEAT and (part == self._last_random or len(set(part)) == 1)
            if len(part) != wanted or stuck:
                raise RootError(
                    "root: the Zymkey's random numbers repeat themselves", "replace the device"
                )
            self._last_random, found = part, found + part
        return found

    def seal(self, plain: bytes, label: str) -> bytes:
        """Version, size of the locked data key, that, ciphertext."""
        key = sha256(self.random(_KEY_BYTES) + os.urandom(_KEY_BYTES))  # good if either is
        locked = self._link.ask(b"L", key)
        if not 0 < len(locked) <= _MOST_LOCKED:
            raise RootError("root: the Zymkey locks to an odd size", "update Zymbit's software")
        cipher = ChaCha20Poly1305(key).encrypt(bytes(12), plain, _SEAL + label.encode())
        return _VERSION + struct.pack("!H", len(locked)) + locked + cipher

    def unseal(self, sealed: bytes, label: str) -> bytes:
        """Open what `seal` made under the same label. Raises UnsealError."""
        if not self._leaving:
            self._perimeter.check()
        size = int.from_bytes(sealed[1:3], "big")
        locked, cipher = sealed[3 : 3 + size], sealed[3 + size :]
        if sealed[:1] != _VERSION or len(sealed) < 3 or not 0 < size <= _MOST_LOCKED:
            raise _does_not_open(label)
        try:
            key = bytearray(self._link.ask(b"U", locked))
        except UnsealError as error:
            raise _does_not_open(label) from error
        try:
            return ChaCha20Poly1305(key).decrypt(bytes(12), cipher, _SEAL + label.encode())
        except (InvalidTag, ValueError) as error:  # also a data key of another size
            raise _does_not_open(label) from error
        finally:
            wipe(key)

    def health(self) -> RootHealth:
        """Ask for the perimeter, and whether it is still the same key and usable."""
        try:
            self._perimeter.check()
            if _public_key(self._link) != self._public:
                raise _another()
            self.random(_REPEAT)
        except RootTampered as error:
            return RootHealth(False, True, error.message)
        except RootError as error:
            return RootHealth(False, False, error.message)
        watched = "watched" if self._perimeter.channels else "not watched"
        return RootHealth(True, False, f"{self._name()}, perimeter {watched}")

    def endorsement(self) -> bytes:
        """`ZymkeyEndorsement`, encoded."""
        said = self._link.ask_if_offered(b"B")
        try:
            return ZymkeyEndorsement(
                serial=_text(self._link.ask(b"N")),
                model=_text(self._link.ask(b"M")),
                firmware=_text(self._link.ask(b"F")),
                public_key=self._public,
                binding=Binding(said[0] == 1, said[1] == 1) if said and len(said) == 2 else None,
                perimeter=tuple(sorted(self._perimeter.channels)),
            ).encode()
        except FormatError as error:
            raise RootError(f"root: {error}", "update Zymbit's software") from error

    def close(self) -> None:
        """End the device's process, and what it holds in memory with it."""
        self._link.close()

    def _name(self) -> str:
        return "a stand-in for a Zymkey, simulated" if self.simulated else "Zymkey"


def _public_key(link: ZymkeyLink) -> bytes:
    """Slot 0. Raises RootError if it is no point of the curve."""
    public = link.ask(b"K")
    try:
        if len(public) != 64:
            raise ValueError
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
    except ValueError as error:
        raise RootError(
            "root: the Zymkey's slot 0 is no P-256 key", "replace the device"
        ) from error
    return public


def _text(said: bytes) -> str:
    try:
        return said.decode()
    except UnicodeDecodeError as error:
        raise RootError("root: the Zymkey's name is no text", "update Zymbit's software") from error


def _another() -> RootError:
    return RootError(
        "root: another Zymkey than the one that this node was made with",
        "plug in the right one, or make a new node",
    )


def _does_not_open(label: str) -> UnsealError:
    return UnsealError(
        f"root: sealed bytes for {label!r} do not open", "restore them from a backup"
    )

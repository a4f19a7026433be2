"""What a Zymkey does, in software: three P-256 keys, locking, a perimeter with two channels.

Nothing is kept on disk: with its process, a stand-in's keys are gone. Faults are injected here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MODEL = "SEALRUN STAND-IN for a Zymkey (simulated)"
FIRMWARE = "0.0-simulated"
SLOTS = 3  # as Zymkey 4 has
CHANNELS = 2
MOST_LOCKED = 4096  # bytes at once; a stand-in's limit, so that nobody leans on there being none
SELF_DESTRUCT = 2  # bit of a perimeter channel's action
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
_ECDSA = ec.ECDSA(Prehashed(hashes.SHA256()))


class Failed(Exception):
    """Becomes the status ``-code``, an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Faults:
    """What is wrong with the device just now.

    ``busy``: so many requests are answered EBUSY (-1: all). ``fail``: operation by name to errno.
    ``unplug_at``: the operation during which it vanishes. ``slow``: seconds before each answer.
    """

    absent: bool = False
    busy: int = 0
    fail: dict[str, int] = field(default_factory=dict)
    unplug_at: str = ""
    slow: float = 0.0
    wrong_signature: bool = False
    high_s: bool = False
    other_key: bool = False
    stuck_random: bool = False
    wrong_unlock: bool = False
    text: str | None = None  # in place of model, firmware and serial number


class Device:
    """Answers one operation at a time, by its name: ``status, bytes``."""

    def __init__(self, serial: str) -> None:
        self.faults = Faults()
        self.perimeter = [0] * CHANNELS
        self._actions = [1] * CHANNELS
        self._keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(SLOTS)]
        self._other = ec.generate_private_key(ec.SECP256R1())
        self._locks = [AESGCM(AESGCM.generate_key(256)) for _ in range(2)]
        self._serial = serial
        self._binding_locked = False
        self._changed = threading.Condition()
        self.led = "off"

    def answer(self, name: str, argument: int, data: bytes) -> tuple[int, bytes]:
        """Do ``name``. A status below zero is a negative errno."""
        faults = self.faults
        if faults.busy:
            faults.busy -= faults.busy > 0
            return -errno.EBUSY, b""
        if name in faults.fail:
            return -faults.fail[name], b""
        try:
            return self._do[name](self, argument, data)
        except Failed as failed:
            return -failed.code, b""

    def breach(self, channel: int) -> None:
        """Open the perimeter. Where the owner asked for it, the keys are destroyed."""
        with self._changed:
            self.perimeter[channel] = self.perimeter[channel] or int(time.time())
            if self._actions[channel] & SELF_DESTRUCT:
                self._keys, self._locks = [], []
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget breaches, as the owner can."""
        with self._changed:
            self.perimeter = [0] * CHANNELS

    # ------------------------------------------------------------------------------ operations

    def _key(self, slot: int) -> ec.EllipticCurvePrivateKey:
        if not self._keys:
            raise Failed(errno.ENOKEY)  # destroyed
        if not 0 <= slot < SLOTS:
            raise Failed(errno.EINVAL)
        return self._other if self.faults.other_key else self._keys[slot]

    def _open(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, b""

    def _random(self, argument: int, data: bytes) -> tuple[int, bytes]:
        if self.faults.stuck_random:
            return 0, bytes(argument)
        return 0, secrets.token_bytes(argument)

    def _lock(self, argument: int, data: bytes) -> tuple[int, bytes]:
        cipher = self._cipher(argument)
        if len(data) > MOST_LOCKED:
            raise Failed(errno.EMSGSIZE)
        nonce = os.urandom(12)
        return 0, nonce + cipher.encrypt(nonce, data, None)

    def _unlock(self, argument: int, data: bytes) -> tuple[int, bytes]:
        cipher = self._cipher(argument)
        with contextlib.suppress(InvalidTag, ValueError):
            plain = cipher.decrypt(data[:12], data[12:], None)
            if self.faults.wrong_unlock:
                plain = secrets.token_bytes(len(plain))
            return 1, plain
        return 0, b""

    def _cipher(self, shared: int) -> AESGCM:
        if not self._locks:
            raise Failed(errno.ENOKEY)
        return self._locks[bool(shared)]

    def _sign(self, argument: int, data: bytes) -> tuple[int, bytes]:
        key = self._key(argument)
        if len(data) != 32:
            raise Failed(errno.EINVAL)
        if self.faults.wrong_signature:
            key = ec.generate_private_key(ec.SECP256R1())
        r, s = decode_dss_signature(key.sign(data, _ECDSA))
        if self.faults.high_s:
            s = max(s, ORDER - s)
        # The recovery id is not computed: P-256 is not the curve where somebody wants it.
        return 0, r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x00"

    def _verify(self, argument: int, data: bytes) -> tuple[int, bytes]:
        if len(data) != 96:
            raise Failed(errno.EINVAL)
        r, s = int.from_bytes(data[32:64], "big"), int.from_bytes(data[64:], "big")
        try:
            self._key(argument).public_key().verify(encode_dss_signature(r, s), data[:32], _ECDSA)
        except InvalidSignature:
            return 0, b""
        return 1, b""

    def _public_key(self, argument: int, data: bytes) -> tuple[int, bytes]:
        point = self._key(argument).public_key().public_numbers()
        return 0, point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")

    def _public_pem(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, self._key(argument).public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def _perimeter(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, _numbers(*self.perimeter)

    def _clear_perimeter(self, argument: int, data: bytes) -> tuple[int, bytes]:
        self.clear()
        return 0, b""

    def _perimeter_action(self, argument: int, data: bytes) -> tuple[int, bytes]:
        if not 0 <= argument < CHANNELS or len(data) != 4 or data[:3] != bytes(3) or data[3] > 3:
            raise Failed(errno.EINVAL)
        self._actions[argument] = data[3]
        return 0, b""

    def _wait_perimeter(self, argument: int, data: bytes) -> tuple[int, bytes]:
        limit = argument / 1000 if argument >= 0 else None
        with self._changed:
            if not self._changed.wait_for(lambda: any(self.perimeter), limit):
                raise Failed(errno.ETIMEDOUT)
        return 0, b""

    def _model(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, (MODEL if self.faults.text is None else self.faults.text).encode()

    def _firmware(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, (FIRMWARE if self.faults.text is None else self.faults.text).encode()

    def _serial_number(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, (self._serial if self.faults.text is None else self.faults.text).encode()

    def _binding(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, _numbers(self._binding_locked, self._binding_locked)

    def _lock_binding(self, argument: int, data: bytes) -> tuple[int, bytes]:
        self._binding_locked = True
        return 0, b""

    def _time(self, argument: int, data: bytes) -> tuple[int, bytes]:
        if argument:  # "precise": the moment the next second begins
            time.sleep(1 - time.time() % 1)
        return 0, _numbers(int(time.time()))

    def _led(self, argument: int, data: bytes) -> tuple[int, bytes]:
        if argument not in (0, 1, 2):
            raise Failed(errno.EINVAL)
        self.led = ("off", "on", "flashing")[argument]
        return 0, b""

    def _slots(self, argument: int, data: bytes) -> tuple[int, bytes]:
        return 0, _numbers(SLOTS, *range(len(self._keys)))

    _do: ClassVar[dict[str, Callable[[Device, int, bytes], tuple[int, bytes]]]] = {
        "open": _open,
        "random": _random,
        "lock": _lock,
        "unlock": _unlock,
        "sign": _sign,
        "verify": _verify,
        "public_key": _public_key,
        "public_pem": _public_pem,
        "perimeter": _perimeter,
        "clear_perimeter": _clear_perimeter,
        "perimeter_action": _perimeter_action,
        "wait_perimeter": _wait_perimeter,
        "model": _model,
        "firmware": _firmware,
        "serial": _serial_number,
        "binding": _binding,
        "lock_binding": _lock_binding,
        "time": _time,
        "led": _led,
        "slots": _slots,
    }


def _numbers(*values: int) -> bytes:
    return struct.pack(f"!{len(values)}I", *values)

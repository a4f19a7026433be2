"""The only place that calls Zymbit's binding: a small process of its own per root.

Why a process. The library is somebody else's C: a crash, or a call that never comes back, ends this
process and not the Node. The binding frees nothing that the library hands out, so a Node that runs
for months would grow; this process is begun anew instead. And what it unlocks stays out of the
Node's heap.

It imports nothing of the Node. Requests come over the socket that is its stdin: one byte of
operation, u32 size, bytes; answers: i32 status, u32 size, bytes, in network order. A status is
what the library said (negative errno), or one of those below; never a message, as it could quote
what was unlocked. Source of the binding's behaviour: zku 1.0.33, zymkey/__init__.py and zka.py.
"""

from __future__ import annotations

import ctypes
import re
import resource
import socket
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

OK, NOT_GENUINE, NOT_OFFERED, NO_LIBRARY, BROKEN = 0, 1, 2, 3, 4
MOST_BYTES = 8192  # of a request or an answer: the largest is a locked data key
SLOT = 0  # the key that a Zymkey is made with
_PR_SET_DUMPABLE = 4
_CODE = re.compile(r"bad return code (-?\d{1,9})\Z")
_REQUEST, _ANSWER = struct.Struct("!BI"), struct.Struct("!iI")


class Digest:
    """The binding signs what ``digest()`` gives, as it is: handing it bytes would hash them."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def digest(self) -> bytes:
        """32 bytes."""
        return self._value


class Zymkey:
    """One opened device, by the binding's own client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def answer(self, operation: bytes, data: bytes) -> tuple[int, bytes]:
        """Do one operation of the table. The binding says failures as AssertionErrors."""
        return OK, bytes(self._operations[operation](self, data))

    def _model(self, _: bytes) -> bytes:
        return str(self._client.get_model_number()).encode()

    def _firmware(self, _: bytes) -> bytes:
        return str(self._client.get_firmware_version()).encode()

    def _serial(self, _: bytes) -> bytes:
        return str(self._client.get_serial_number()).encode()

    def _binding(self, _: bytes) -> bytes:
        """Two bytes: whether the binding is locked, whether it is bound."""
        return bytes(map(bool, self._client.get_current_binding_info()))

    def _public_key(self, _: bytes) -> bytes:
        return bytes(self._client.get_ecdsa_public_key(SLOT))

    def _random(self, data: bytes) -> bytes:
        return bytes(self._client.get_random(int.from_bytes(data, "big")))

    def _sign(self, data: bytes) -> bytes:
        return bytes(self._client.sign_digest(Digest(data), SLOT))

    def _perimeter(self, _: bytes) -> bytes:
        """One u32 per channel: when it was breached first, 0 for never."""
        return b"".join(
            struct.pack("!I", when) for when in self._client.get_perimeter_detect_info()
        )

    def _lock(self, data: bytes) -> bytes:
        return bytes(self._client.lock(data))

    def _unlock(self, data: bytes) -> bytes:
        """As the binding's ``unlock``, which never frees the plain bytes: here they are cleared."""
        plain, size = ctypes.c_void_p(), ctypes.c_int()
        source = (ctypes.c_ubyte * len(data))(*data)
        status = self._client._zkUnlockDataB2B(
            self._client._zk_ctx,
            ctypes.byref(source),
            len(data),
            ctypes.byref(plain),
            ctypes.byref(size),
            False,
        )
        if status != 1 or not plain.value or not 0 <= size.value <= MOST_BYTES:
            raise NotGenuine if status == 0 else AssertionError(f"bad return code {status}")
        try:
            return ctypes.string_at(plain.value, size.value)
        finally:
            ctypes.memset(plain.value, 0, size.value)
            _libc.free(plain)

    _operations: types.MappingProxyType[bytes, Callable[[Zymkey, bytes], bytes]]
    _operations = types.MappingProxyType(
        {
            b"M": _model,
            b"F": _firmware,
            b"N": _serial,
            b"B": _binding,
            b"K": _public_key,
            b"R": _random,
            b"S": _sign,
            b"P": _perimeter,
            b"L": _lock,
            b"U": _unlock,
        }
    )


class NotGenuine(Exception):
    """The device does not open these bytes."""


class NoLibrary(Exception):
    """Zymbit's library is missing or is none for this computer."""


def open_client(library: str) -> Any:
    """The binding's client for the library at ``library``, an absolute path.

    The binding looks for a fixed path below two folders, the second of them the root. Settings that
    are there before it is imported put another path in its place; nothing of it is changed.
    """
    settings = types.ModuleType("zymkey.settings")
    settings.__dict__["ZYMKEY_LIBRARY_PATH"] = library
    sys.modules["zymkey.settings"] = settings
    try:
        import zymkey  # type: ignore[import-untyped]
    except (AttributeError, ImportError, OSError) as error:  # not there, no library, not this one
        raise NoLibrary from error
    except Exception as error:
        if type(error).__name__ == "ZymkeyLibraryError":  # its class is in what did not import
            raise NoLibrary from error
        raise
    # Opened at import; None says that that failed, and to open again says how.
    return zymkey.client if zymkey.client is not None else zymkey.Zymkey()


def attempt(do: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
    """Turn whatever the binding raises into a status."""
    try:
        return do()
    except NotGenuine:
        return NOT_GENUINE, b""
    except NoLibrary:
        return NO_LIBRARY, b""
    except AssertionError as error:
        found = _CODE.match(str(error))
        code = int(found[1]) if found else 0
        return (code, b"") if code < 0 else (BROKEN, b"")
    except AttributeError:
        return NOT_OFFERED, b""
    except Exception:
        return BROKEN, b""


def serve(channel: socket.socket, library: str) -> None:
    """Answer until the Node hangs up. A device that did not open is tried again each time."""
    device: Zymkey | None = None

    def do() -> tuple[int, bytes]:
        nonlocal device
        if device is None:
            device = Zymkey(open_client(library))
        return device.answer(operation, data)

    while True:
        head = _receive(channel, _REQUEST.size)
        if len(head) < _REQUEST.size:
            return
        number, size = _REQUEST.unpack(head)
        if size > MOST_BYTES:
            return
        operation, data = bytes([number]), _receive(channel, size)
        status, answer = attempt(do)
        channel.sendall(_ANSWER.pack(status, len(answer)) + answer)


def _receive(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data


def protect() -> None:
    """No core file and no debugger of the same user: memory here has held unlocked bytes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """Serve over stdin, with the library at the path that is the one argument."""
    protect()
    with socket.socket(fileno=0) as channel:
        serve(channel, sys.argv[1])


_libc = ctypes.CDLL(None)
_libc.free.argtypes = [ctypes.c_void_p]
_libc.free.restype = None

if __name__ == "__main__":
    main()

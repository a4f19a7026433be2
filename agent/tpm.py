"""The Machine's TPM: quotes what booted, and shows in which TPM the quoting key lives.

Everything is made anew from the TPM's seeds at each boot; nothing of it is ever stored. One lock:
a TPM does one thing at a time, and questions come from several sides.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from agent import tpm_keys as keys
from agent.formats.endorsement import (
    MAX_CERTIFICATE,
    MAX_CERTIFICATES,
    Challenge,
    Endorsement,
)
from agent.formats.quote import Quote
from agent.formats.tpm_command import CREATE_PRIMARY, primary_parameters
from agent.tpm_wire import TpmError, Transport, execute, password, sized, u16, u32

# TPM_CC, Part 2 §6.5.2
_POLICY_SECRET, _ACTIVATE, _NV_READ = 0x151, 0x147, 0x14E
_QUOTE, _FLUSH, _NV_READ_PUBLIC, _START_SESSION, _CAPABILITY = 0x158, 0x165, 0x169, 0x176, 0x17A
_SHUTDOWN, _SU_CLEAR = 0x145, 0  # TPM_SU_CLEAR: nothing of this boot is wanted in the next
_NULL_HANDLE = 0x40000007  # TPM_RH_NULL
_POLICY_SESSION = 0x01  # TPM_SE_POLICY
_CAP_HANDLES, _NV_FIRST = 1, 0x01000000
_MAX_HANDLES = 256
_MAX_INDEX = MAX_CERTIFICATE * MAX_CERTIFICATES  # bytes of one NV index that are read
_NV_BLOCK = 512  # bytes; every PC's TPM reads at least so many at once


class Tpm:
    """One TPM over one transport. Raises TpmError for all that goes wrong in it."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self._lock = transport, threading.Lock()
        self._ak, self._ak_public = self._create(keys.AK)
        self._endorsed: tuple[int, Endorsement] | None = None

    def quote(self, qualifying: bytes) -> Quote:
        """The PCRs of QUOTED_PCRS (SHA-256 bank) and `qualifying` (32 bytes), signed by the AK."""
        parameters = sized(qualifying) + u16(keys.ALG_NULL) + keys.SELECTION
        with self._lock:
            _, answer = execute(
                self._transport, _QUOTE, (self._ak,), parameters, authorise=(password(),)
            )
        return Quote(answer.sized(), answer.rest(), self._ak_public)

    def endorsement(self) -> Endorsement:
        """The EK with its certificate, the certificates of its issuers, and the AK.

        Without any certificate the list is empty; it is for the asker to refuse that.
        """
        with self._lock:
            return self._endorse()[1]

    def activate(self, challenge: Challenge) -> bytes:
        """The secret that was sealed for this EK and AK together (Part 3, §12.5).

        Raises TpmError if it was sealed for others.
        """
        with self._lock:
            ek, _ = self._endorse()
            with self._policy() as session:
                _, answer = execute(
                    self._transport,
                    _ACTIVATE,
                    (self._ak, ek),
                    challenge.blob + challenge.secret,
                    authorise=(password(), password(session)),
                )
                secret = answer.sized()
        answer.end()
        return secret

    def rest(self) -> None:
        """Be ready for the end of power: only so does every TPM keep its clock (Part 3, §9.4)."""
        with self._lock:
            execute(self._transport, _SHUTDOWN, (), u16(_SU_CLEAR))

    def close(self) -> None:
        """Flush the keys and let go of the TPM."""
        for handle in (self._ak, *([self._endorsed[0]] if self._endorsed else [])):
            with contextlib.suppress(TpmError):
                self._flush(handle)
        self._transport.close()

    def _create(self, template: bytes) -> tuple[int, bytes]:
        """A primary key in the endorsement hierarchy: (handle, TPMT_PUBLIC)."""
        handle, answer = execute(
            self._transport,
            CREATE_PRIMARY,
            (keys.ENDORSEMENT,),
            primary_parameters(template),
            authorise=(password(),),
            answers_handle=True,
        )
        return handle, answer.sized()

    def _endorse(self) -> tuple[int, Endorsement]:
        """The EK's handle, and what is said of it.

        Made once and kept loaded: it takes a real TPM some ten seconds if it is an RSA key. Every
        member and every broker of a task has it opened, and each quote would wait for all of them.
        """
        if self._endorsed is None:
            certificates, template = self._certificates()
            handle, public = self._create(template)
            self._endorsed = handle, Endorsement(tuple(certificates), public, self._ak_public)
        return self._endorsed

    @contextlib.contextmanager
    def _policy(self) -> Iterator[int]:
        """A session that meets the EK's policy: the endorsement hierarchy's (empty) password."""
        algorithms = bytes([_POLICY_SESSION]) + u16(keys.ALG_NULL, keys.SHA256)
        session, _ = execute(
            self._transport,
            _START_SESSION,
            (_NULL_HANDLE, _NULL_HANDLE),
            sized(os.urandom(16)) + sized(b"") + algorithms,
            answers_handle=True,
        )
        try:
            unbound = sized(b"") * 3 + u32(0)  # no nonce, no cpHash, no reference, no expiry
            execute(
                self._transport,
                _POLICY_SECRET,
                (keys.ENDORSEMENT, session),
                unbound,
                authorise=(password(),),
            )
            yield session
        finally:
            self._flush(session)

    def _flush(self, handle: int) -> None:
        execute(self._transport, _FLUSH, (), u32(handle))

    def _certificates(self) -> tuple[list[bytes], bytes]:
        """Certificates, EK's first, and the template of the EK that has one."""
        present = self._indices()
        for index, template in keys.CERTIFIED:
            if index in present:
                chain = b"".join(self._read(each) for each in present if each in keys.CHAIN)
                found = [*split_certificates(self._read(index))[:1], *split_certificates(chain)]
                return found[:MAX_CERTIFICATES], template
        return [], keys.EK_RSA

    def _indices(self) -> list[int]:
        """NV indices that exist, ascending."""
        asked = u32(_CAP_HANDLES, _NV_FIRST, _MAX_HANDLES)
        found: list[int] = []
        more = True
        while more and len(found) < _MAX_HANDLES:
            _, answer = execute(self._transport, _CAPABILITY, (), asked)
            more, kind, count = bool(answer.integer(1)), answer.integer(4), answer.integer(4)
            if kind != _CAP_HANDLES or count > _MAX_HANDLES or (more and not count):
                raise TpmError("the TPM's list of handles is none; boot again")
            found += [answer.integer(4) for _ in range(count)]
            asked = u32(_CAP_HANDLES, found[-1] + 1 if found else 0, _MAX_HANDLES)
        return found

    def _read(self, index: int) -> bytes:
        """The content of an NV index that anybody may read (Part 3, §31.13)."""
        _, answer = execute(self._transport, _NV_READ_PUBLIC, (index,))
        size = int.from_bytes(answer.sized()[-2:], "big")  # TPMS_NV_PUBLIC ends with its dataSize
        if size > _MAX_INDEX:
            raise TpmError(f"NV index {index:#x} has {size} bytes; more than any certificate")
        content = b""
        while len(content) < size:
            block = u16(min(_NV_BLOCK, size - len(content)), len(content))
            _, answer = execute(
                self._transport, _NV_READ, (index, index), block, authorise=(password(),)
            )
            part = answer.sized()
            if not part:
                raise TpmError(f"NV index {index:#x} ends early; boot again")
            content += part
        return content


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

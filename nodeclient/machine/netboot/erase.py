"""The verifier of an erasure: one connection from the eraser, from its hello to its testimony.

Why a right answer proves that the fill lies in the Machine's memory (bound: docs/erasure.md): the
keys are drawn before and revealed only when all is stored, so nothing shorter than the fill tells
the tags; and nobody else can keep a part of it for the eraser. The cable ends here, its rules let
nothing but this connection pass, and this end gives nothing back either: every byte must have been
acknowledged before the keys are shown, because what waits in this host's send queue would be sent
again after. Times bound waiting only; no conclusion is drawn from them.
"""

from __future__ import annotations

import asyncio
import fcntl
import hmac
import logging
import secrets
import socket
import termios
from dataclasses import dataclass, replace
from typing import NoReturn

from agent.formats import erasure as wire
from agent.formats.cbor import FormatError
from agent.formats.erasure import ErasureProof, Hello, Range
from agent.formats.quote import MAX_EVENT_LOG
from agent.formats.tpm_command import SELECTION, create_attestation_key
from nodeclient.core.erasure import read_quoted
from nodeclient.core.tpm.responses import parse_relayed
from nodeclient.errors import MachineError
from nodeclient.machine.netboot.fill import Fill

_log = logging.getLogger(__name__)
_BLOCK = 1 << 16  # bytes read at a time
_AGAIN = "erase again, and look at its console"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait. hello: from the connection on; part: until the eraser takes more of the
    fill; per_gib: to read a GiB back; step: for anything else, a slow TPM's key included."""

    hello: float = 30.0
    part: float = 30.0
    per_gib: float = 120.0
    step: float = 120.0


class Eraser:
    """The eraser at the other end of a connected, non-blocking socket."""

    def __init__(self, peer: socket.socket, patience: Patience) -> None:
        self._peer, self._patience = peer, patience

    async def hello(self) -> Hello:
        """What it says of itself. Raises MachineError."""
        seconds = self._patience.hello
        head = await self._word(wire.WORD, seconds)
        head += await self._take(wire.HELLO_HEAD - wire.WORD, seconds)
        try:
            size = wire.hello_rows(head) * wire.HELLO_ROW
            return Hello.decode(head + await self._take(size, seconds))
        except FormatError as error:
            raise MachineError(str(error), "boot the eraser again") from error

    async def prove(self, image: bytes, ranges: tuple[Range, ...], window: int) -> ErasureProof:
        """Have `ranges` filled and answered for. Raises MachineError for anything but the truth.

        image: ID of the eraser's image. window: of its hello, kept for people.
        """
        nonce, seed = secrets.token_bytes(32), secrets.token_bytes(32)
        keys = secrets.token_bytes(wire.KEYS)
        size = sum(length for _, length in ranges)
        fill = Fill(seed, keys, size)
        await self._send(
            wire.encode_order(nonce, ranges, create_attestation_key(), SELECTION),
            self._patience.step,
        )
        await self._fill(fill)
        await self._stored()
        await self._send(keys, self._patience.step)
        seconds = self._patience.step + self._patience.per_gib * size / (1 << 30)
        answer = await self._word(wire.WORD, seconds)
        answer += await self._take(wire.ANSWER - wire.WORD, self._patience.step)
        if not hmac.compare_digest(answer, fill.tags()):
            raise MachineError("the eraser's answer is wrong: it does not hold the fill", _AGAIN)
        proof = ErasureProof(image, nonce, ranges, window, seed, keys, answer)
        proof = await self._testimony(proof)
        await self._send(wire.BYE, self._patience.step)
        return proof

    async def _fill(self, fill: Fill) -> None:
        """Send it; the next part is made while one is on its way. Who speaks meanwhile is refused.

        A prover that says that it stored before it can have been given everything gambles on keys
        that come too early.
        """
        loop, spoke = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._peer, spoke.set)
        listening = asyncio.create_task(spoke.wait())
        try:
            parts = fill.parts()
            part = next(parts, None)
            while part is not None:
                sending = asyncio.create_task(self._send(part, self._patience.part))
                part = await asyncio.to_thread(next, parts, None)
                await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
                if not sending.done() or (spoke.is_set() and part is not None):
                    sending.cancel()
                    await asyncio.wait({sending})
                    break
                await sending
            else:
                return  # what it says by now, `_stored` judges
        finally:
            listening.cancel()
            loop.remove_reader(self._peer)
        await self._word(wire.WORD, self._patience.step)
        raise MachineError("the eraser speaks before it was given everything", _AGAIN)

    async def _stored(self) -> None:
        """It says that it has everything, and the socket says that all of it was taken."""
        if await self._word(wire.WORD, self._patience.step) != wire.STORED:
            raise MachineError("the eraser said something else than that it stored", _AGAIN)
        waiting = _unacknowledged(self._peer)
        if waiting:
            raise MachineError(
                f"the eraser says that it stored what it did not take ({waiting} bytes)", _AGAIN
            )

    async def _testimony(self, proof: ErasureProof) -> ErasureProof:
        """The same with its TPM's quote, where it has one, which must be over this erasure."""
        created = await self._sized(wire.MAX_TPM_RESPONSE)
        quoted = await self._sized(wire.MAX_TPM_RESPONSE)
        log = await self._sized(MAX_EVENT_LOG)
        try:
            quote = parse_relayed(created, quoted)
            if quote is None:
                return proof
            proof = replace(proof, quote=quote, event_log=log)
            read = read_quoted(proof)
        except FormatError as error:
            raise MachineError(f"the eraser's quote is none ({error})", _AGAIN) from error
        if not (read.genuine and read.bound):
            raise MachineError("the eraser's quote is over something else, or forged", _AGAIN)
        return proof

    async def _sized(self, most: int) -> bytes:
        head = await self._word(4, self._patience.step)
        size = int.from_bytes(head, "little")
        if size > most:
            raise MachineError(f"the eraser sends {size} bytes, more than {most}", _AGAIN)
        return await self._take(size, self._patience.step)

    async def _send(self, data: bytes, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_sendall(self._peer, data)
        except TimeoutError:
            raise MachineError("the eraser takes no more", _AGAIN) from None
        except OSError as error:
            _gone(error)

    async def _take(self, size: int, seconds: float) -> bytes:
        """Exactly `size` bytes."""
        data = b""
        try:
            async with asyncio.timeout(seconds):
                while len(data) < size:
                    left = min(size - len(data), _BLOCK)
                    part = await asyncio.get_running_loop().sock_recv(self._peer, left)
                    if not part:
                        _gone(None)
                    data += part
        except TimeoutError:
            raise MachineError("the eraser is silent", _AGAIN) from None
        except OSError as error:
            _gone(error)
        return data

    async def _word(self, size: int, seconds: float) -> bytes:
        """At most a word, in whose place a refusal may stand. Raises MachineError with its text."""
        data = await self._take(size, seconds)
        if data != wire.REFUSED[:size]:
            return data
        data += await self._take(wire.WORD - size, seconds)
        if data != wire.REFUSED:
            raise MachineError("the eraser answers what is no answer", _AGAIN)
        length = int.from_bytes(await self._take(4, seconds), "little")
        said = await self._take(min(length, wire.MAX_REFUSAL), seconds)
        text = "".join(c if c.isprintable() else "?" for c in said.decode("ascii", "replace"))
        raise MachineError(f"the eraser refused ({text})", _AGAIN)


def _unacknowledged(peer: socket.socket) -> int:
    """Bytes of the send queue that the other side has not acknowledged (SIOCOUTQ, tcp(7))."""
    answer = fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, "little", signed=True)


def _gone(error: OSError | None) -> NoReturn:
    why = "closed the connection" if error is None else f"is gone ({error.strerror})"
    raise MachineError(f"the eraser {why}", _AGAIN) from error

"""JSON-RPC over HTTP, raw: one request, one answer, two kinds of failure.

web3.py is left out on purpose: to import it takes longer than `sealrun node status` may, and eight
Node processes poll on two cores, where turning every answer into AttributeDicts costs more than all
the rest of a poll. Quantities stay hex strings until a caller reads them with `quantity()` or
`blob()`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import aiohttp

from nodeclient.chain.errors import ChainUnavailable, RpcRefused

REVERT_DATA_LIMIT = 4096
"""Bytes of revert data that are kept: our reasons are 32 to 64 characters long."""
MOST_BYTES = 64 << 20
"""Of one answer. The largest are logs of a whole backfill's step; endpoints end at 10 to 50 MB."""
_PART = 1 << 16


class Rpc:
    """One Ethereum RPC endpoint. The constructor opens nothing; `close()` ends the HTTP session."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        """`url` is http(s)://…; `timeout` bounds one whole request, in seconds."""
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = 0

    async def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Return the `result` of one JSON-RPC request. It is never repeated: that is the business
        of watcher and sender, who know what may be.

        Raises `ChainUnavailable` when no well-formed answer came and `RpcRefused` when the endpoint
        answered with an error object (a revert is one).
        """
        self._asked += 1
        body = {"jsonrpc": "2.0", "id": self._asked, "method": method, "params": list(params)}
        try:
            raw = await self._post(json.dumps(body).encode())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ChainUnavailable(
                f"{method}: no answer from the RPC ({type(error).__name__})",
                "check that the node runs and that the URL is right",
            ) from error
        return parse_answer(method, raw)

    async def _post(self, body: bytes) -> bytes:
        """The answer's body. Raises ValueError for one that is too long."""
        headers = {"Content-Type": "application/json"}
        raw = bytearray()
        async with self._open().post(self.url, data=body, headers=headers) as answer:
            async for part in answer.content.iter_chunked(_PART):
                raw += part
                if len(raw) > MOST_BYTES:
                    raise ValueError("the answer is too long")
        return bytes(raw)

    def _open(self) -> aiohttp.ClientSession:
        """The session of this event loop: one whose loop has ended is of no use."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            # A connection per request: one that was kept may be closed at the other end by then,
            # and a transaction must not be sent twice to find out.
            connector = aiohttp.TCPConnector(force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, raise_for_status=True
            )
            self._loop = loop
        return self._session

    async def chain_id(self) -> int:
        """The chain id of the endpoint (EIP-155)."""
        return quantity(await self.request("eth_chainId"))

    async def block(self, number: int | str, *, full: bool = False) -> dict[str, Any] | None:
        """The block at a height or tag as the RPC words it; None when there is none yet."""
        tag = number if isinstance(number, str) else hex(number)
        answer = await self.request("eth_getBlockByNumber", [tag, full])
        if answer is not None and not isinstance(answer, dict):
            raise ChainUnavailable("eth_getBlockByNumber: no block object", "check the RPC URL")
        return answer

    async def close(self) -> None:
        """Close the HTTP session; the object must not be used afterwards."""
        if self._session is not None:
            await self._session.close()


def parse_answer(method: str, raw: bytes) -> Any:
    """The `result` in the body of an answer. Raises `ChainUnavailable`, `RpcRefused`."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ChainUnavailable(f"{method}: the answer is no JSON", "check the RPC URL") from error
    if not isinstance(answer, dict):
        raise ChainUnavailable(f"{method}: the answer is no JSON object", "check the RPC URL")
    if answer.get("error") is not None:
        raise _refusal(method, answer["error"])
    if "result" not in answer:
        raise ChainUnavailable(f"{method}: the answer has no result", "check the RPC URL")
    return answer["result"]


def quantity(value: object) -> int:
    """Read a hex quantity of the JSON-RPC. Raises `ChainUnavailable` for anything else."""
    if isinstance(value, str) and value[:2] == "0x" and 2 < len(value) <= 66:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise ChainUnavailable("the RPC sent something that is no hex quantity", "check the RPC URL")


def blob(value: object, size: int | None = None) -> bytes:
    """Read hex bytes of the JSON-RPC, of exactly `size` bytes when given.

    Raises `ChainUnavailable` for anything else.
    """
    if isinstance(value, str) and value[:2] == "0x":
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = None
        if data is not None and (size is None or len(data) == size):
            return data
    raise ChainUnavailable("the RPC sent malformed hex bytes", "check the RPC URL")


def _refusal(method: str, error: object) -> RpcRefused:
    """Build the typed error of a JSON-RPC error object, whatever shape the endpoint gave it."""
    fields = cast(dict[str, Any], error) if isinstance(error, dict) else {"message": error}
    code, said = fields.get("code"), fields.get("message")
    message = said[:300].replace("\n", " ") if isinstance(said, str) else "no message"
    data = fields.get("data")
    if isinstance(data, dict):  # some endpoints wrap it: {"data": {"data": "0x…"}}
        data = data.get("data")
    try:
        raw = blob(data)[:REVERT_DATA_LIMIT]
    except ChainUnavailable:
        raw = b""
    return RpcRefused(method, code if isinstance(code, int) else 0, message, raw)

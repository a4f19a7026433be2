"""JSON-RPC over HTTP, raw: one request, one answer, two kinds of failure.

web3.py's formatters are left out on purpose: eight Node processes poll on two cores, and turning
every answer into AttributeDicts costs more than all the rest of a poll. Quantities stay hex
strings until a caller reads them with `quantity()` or `blob()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import aiohttp
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from nodeclient.chain.errors import ChainUnavailable, RpcRefused

REVERT_DATA_LIMIT = 4096
"""Bytes of revert data that are kept: our reasons are 32 to 64 characters long."""


class Rpc:
    """One Ethereum RPC endpoint. The constructor opens nothing; `close()` ends the HTTP session."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        """`url` is http(s)://…; `timeout` bounds one whole request, in seconds."""
        self.url = url
        # Retries are the business of watcher and sender, who know what may be repeated.
        provider = AsyncHTTPProvider(
            url,
            request_kwargs={"timeout": aiohttp.ClientTimeout(total=timeout)},
            exception_retry_configuration=None,
        )
        self._w3: AsyncWeb3[AsyncHTTPProvider] = AsyncWeb3(provider)

    async def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Return the `result` of one JSON-RPC request.

        Raises `ChainUnavailable` when no well-formed answer came and `RpcRefused` when the endpoint
        answered with an error object (a revert is one).
        """
        try:
            answer = await self._w3.provider.make_request(RPCEndpoint(method), list(params))
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            ValueError,
            Web3Exception,
        ) as error:
            raise ChainUnavailable(
                f"{method}: no answer from the RPC ({type(error).__name__})",
                "check that the node runs and that the URL is right",
            ) from error
        if not isinstance(answer, dict):
            raise ChainUnavailable(f"{method}: the answer is no JSON object", "check the RPC URL")
        if answer.get("error") is not None:
            raise _refusal(method, answer["error"])
        if "result" not in answer:
            raise ChainUnavailable(f"{method}: the answer has no result", "check the RPC URL")
        return answer["result"]

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
        await self._w3.provider.disconnect()


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

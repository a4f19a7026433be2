"""A Pi's end of the cable that kills itself at a named moment of a rotation.

Arguments: folder, port, moment (`agreed`, `sealed`, `kept`, `used`, `closed`, or anything else:
never). Goes on with the keys of the folder if there are any, else writes the first and prints them.
Then it prints one line for each step: heard, and the generation after a rotation.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from agent.formats.rpc import RpcConnection
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.link import Link, LinkKeys
from tests.machine.support import some_root


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def serve(method: str, body: object) -> object:
    return [method, body]


async def main(folder: str, port: str, moment: str) -> None:
    slot, noted = KeySlot(Path(folder) / "slot", some_root()), Path(folder) / "session"
    if noted.exists():
        found = noted.read_bytes()
        session = (found[:32], found[32:])
        link = Link(slot.load(session), serve)
        link.session = session
    else:
        link = Link(LinkKeys.fresh(b"\5" * 32), serve)
    say(port=link.listen("127.0.0.1", int(port)), certificate=link.keys.digest.hex())
    await link.agent(60)
    assert link.session is not None
    hpke, signing = link.session
    if not noted.exists():
        slot.put(slot.seal(link.session, link.keys))
        noted.write_bytes(hpke + signing)
    say(heard=link.keys.generation)

    def seal(keys: LinkKeys) -> bytes:
        if moment == "agreed":
            die()
        return slot.seal((hpke, signing), keys)

    def put(sealed: bytes) -> None:
        if moment == "sealed":
            die()
        slot.put(sealed)
        if moment == "kept":
            die()

    if moment == "used":
        RpcConnection.close = lambda _: die()  # type: ignore[assignment,method-assign,return-value]
    await link.rotate(seal, put)
    if moment == "closed":
        die()
    await link.agent(60)
    say(heard=link.keys.generation)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)


asyncio.run(main(*sys.argv[1:]))

"""``POST /v1/motions``: the operator moves to bar hardware, or about who vouches for Zymkeys."""

from __future__ import annotations

import asyncio

from aiohttp import web

from nodeclient.control.server import POST_SECONDS, answering, unhex
from nodeclient.core.admission import MotionKind
from nodeclient.duties.proposing import Proposer
from nodeclient.errors import BadInput


def motion_routes(proposer: Proposer) -> list[web.RouteDef]:
    """The routes of this part of the control interface."""

    async def open_(request: web.Request) -> object:
        """{"kind": "bar_maker", "subject": "0x…", "evidence": "0x…"}, 32 bytes each."""
        try:
            body = await request.json()
            kind = MotionKind[str(body["kind"]).upper()]
            subject, evidence = unhex(body["subject"]), unhex(body["evidence"])
            if kind is MotionKind.ADMIT or len(subject) != 32 or len(evidence) != 32:
                raise ValueError("not a motion of an operator")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadInput("the request is no motion", "use sealrun node motion open") from error
        async with asyncio.timeout(POST_SECONDS):
            motion = await proposer.propose(kind, subject, evidence)
        return {"motion": motion.id, "round": motion.round}

    return [web.post("/v1/motions", answering(open_))]

"""The daemon's control interface: JSON over HTTP on ``<node>/control.sock`` (mode 0600).

Whoever may open the socket is the operator. Answers carry ``error`` and ``next_step`` when they are
not 200; nothing here ever shows a key.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from aiohttp import web
from eth_utils.address import to_checksum_address

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.outcome import Outcome
from agent.formats.taskspec import (
    FunctionRef,
    Input,
    Limits,
    Receiver,
    TaskSpec,
    commitment_of,
)
from nodeclient.capsules.consents import owners_of
from nodeclient.control.numbers import take_unspent
from nodeclient.core import events as ev
from nodeclient.core.case import Case
from nodeclient.core.roles.broker import owned_cids
from nodeclient.core.roles.requester import State
from nodeclient.core.types import ZERO_ADDRESS, Address, Commitment, TaskId
from nodeclient.duties.appraising import read_summary
from nodeclient.duties.services import Services
from nodeclient.errors import BadInput, SealrunError
from nodeclient.health.service import Health
from nodeclient.health.views import as_json
from nodeclient.images.errors import ImageError, ImageRefused
from nodeclient.p2p.contact import Contact
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import MAX_OUTCOME
from nodeclient.runner import Runner

POST_SECONDS = 50.0  # consents and the transaction; the client waits 60
MAX_REQUEST = 1 << 20
SHOWN_INCIDENTS = 100
WHY = {  # causes of TaskFailed in words
    4: "the executor did not accept in time",
    5: "no BEFORE record came in time",
    6: "the committee refused",
    7: "the executor did not finish in time",
    9: "the leader did not draw in time",
    11: "a vote barred hardware that the task needs",
}


class Control:
    """Serves one node's operator. ``start`` listens, ``stop`` removes the socket."""

    def __init__(
        self,
        services: Services,
        runner: Runner,
        health: Health,
        path: Path,
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        """``routes``: what other parts of the daemon answer."""
        self._routes = routes
        self._services = services
        self._health = health
        self._runner = runner
        self._socket = path
        self._site: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. A socket left by a killed daemon is replaced."""
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_get("/v1/status", answering(self._status))
        app.router.add_get("/v1/health", answering(self._how))
        app.router.add_get("/v1/journal", answering(self._journal))
        app.router.add_post("/v1/tasks", answering(self._submit))
        app.router.add_post("/v1/images", answering(self._bring))
        app.router.add_get("/v1/tasks/{task}", answering(self._task))
        app.router.add_get("/v1/tasks/{task}/results", answering(self._results))
        app.add_routes(self._routes)
        self._site = web.AppRunner(app, access_log=None)
        await self._site.setup()
        self._socket.unlink(missing_ok=True)
        await web.SockSite(self._site, listen_privately(self._socket)).start()

    async def stop(self) -> None:
        """Close and remove the socket."""
        if self._site is not None:
            await self._site.cleanup()
        self._socket.unlink(missing_ok=True)

    # --------------------------------------------------------------------------------- answers

    async def _status(self, _request: web.Request) -> object:
        me, chain = self._services.me, self._services.chain
        record = await chain.node(me.address)
        head = await chain.head()
        return {
            "account": to_checksum_address(me.address),
            "roles": sorted(me.roles),
            "root": {
                "class": self._services.root.class_id,
                "simulated": self._services.root.simulated,
            },
            "registry": None
            if record is None
            else {
                "status": record.status.name,
                "deposit_wei": str(record.deposit),
                "reputation_bps": await chain.reputation(me.address),
            },
            "chain": {"head": head.number, "applied": self._runner.head},
            "peers": len(self._services.directory.peers()),
            "machine": self._machine(),
            "tasks": [brief(case) for case in self._services.store.cases()],
        }

    async def _how(self, _request: web.Request) -> object:
        """The picture and its verdict, and for the operator alone the Tasks and incidents."""
        reading = await self._health.read()
        return {
            **as_json(reading.picture, reading.remarks),
            "cases": [brief(case) for case in self._services.store.cases()],
            "noticed": self._machine(),
        }

    def _machine(self) -> object:
        """Whether it is banned, and what was noticed of it in the newest Tasks."""
        banned = self._services.ban.standing()
        return {
            "banned": None if banned is None else {"reason": banned.reason, "at": banned.at},
            "candidate": banned is None,
            "incidents": [
                {
                    "task": case.task.id if case.task else None,
                    "at": each.at,
                    "kind": each.kind.value,
                    "text": each.text,
                    "responses": [response.value for response in each.responses],
                    "done": each.done,
                }
                for case in self._services.store.cases()
                if case.executor is not None
                for each in case.executor.noticed
            ][:SHOWN_INCIDENTS],
        }

    async def _journal(self, _request: web.Request) -> object:
        return {
            "journal": [
                {"at": at, "commitment": None if who is None else "0x" + who.hex(), "what": what}
                for at, who, what in self._services.store.notes()
            ]
        }

    async def _submit(self, request: web.Request) -> object:
        """Order a Task; wait until it stands on chain, or until an owner or the chain says no."""
        body = await request.json()
        services = self._services
        number = await take_unspent(services.store, services.chain, services.me.address)
        spec = self._spec(body, number)
        await self._check_parts(spec)
        encoded = spec.encode()
        committed = Commitment(commitment_of(encoded))
        post = bool(body.get("post", True))
        await self._runner.ask(
            lambda request_id: ev.TaskOrdered(
                sender=self._services.me.address,
                request=request_id,
                commitment=committed,
                spec=encoded,
                committee_size=int(body["committee_size"]),
                class_id=int(body["class_id"]),
                executor_fee=int(body["fees"]["executor_wei"]),
                member_fee=int(body["fees"]["member_wei"]),
                post=post,
            ),
            POST_SECONDS,
        )
        return await self._posted(committed, post)

    async def _posted(self, committed: Commitment, post: bool) -> object:
        end = time.monotonic() + POST_SECONDS
        while time.monotonic() < end:
            case = self._services.store.case(committed)
            role = case.requester if case else None
            if case is not None and role is not None:
                if role.state is State.REFUSED:
                    raise BadInput(
                        "; ".join(role.reasons) or "refused", "ask the owner, or change it"
                    )
                if case.task is not None:
                    return {"task": case.task.id, **view(case)}
                if not post and role.state is State.POSTING:
                    return view(case)
            await asyncio.sleep(0.1)
        raise SealrunError("the task is ordered but not on chain yet", "see: sealrun node status")

    def _spec(self, body: dict[str, Any], number: int) -> TaskSpec:
        """A TaskSpec with a fresh salt and the receivers' keys as their contacts say."""
        try:
            function = body["function"]
            image = body.get("runtime_image") or self._default_image()
            return TaskSpec(
                salt=secrets.token_bytes(32),
                requester=self._services.me.address,
                number=number,
                function=FunctionRef(
                    function["cid"], unhex(function["owner"]), unhex(function["digest"])
                ),
                command=tuple(body["command"]),
                runtime_image=unhex(image),
                inputs=tuple(Input(i["name"], i["cid"], unhex(i["owner"])) for i in body["inputs"]),
                receivers=tuple(self._receiver(entry) for entry in body["receivers"]),
                connections=tuple(body["connections"]),
                devices=tuple(body["devices"]),
                limits=Limits(**body["limits"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, FormatError):
                raise BadInput(str(error), "correct the task file") from None
            raise BadInput(f"the request lacks or mistypes {error}", "correct the task") from None

    async def _check_parts(self, spec: TaskSpec) -> None:
        """What can be known before anybody is asked. Raises BadInput."""
        me = self._services.me.address
        for owner in owners_of(spec):
            if owner != me:
                self._contact(owner, "owner")
        found = await asyncio.to_thread(self._services.faults, spec, owned_cids(spec, me))
        if found:
            raise BadInput("; ".join(found), "seal it again, or correct the task")

    def _contact(self, node: Address, what: str) -> Contact:
        try:
            return self._services.directory.contact(node)
        except PeerError:
            who = to_checksum_address(node)
            raise BadInput(
                f"{what} {who} is no registered node with a contact", "correct the address"
            ) from None

    def _receiver(self, entry: dict[str, str]) -> Receiver:
        node = Address(unhex(entry["node"]))
        if node == self._services.me.address:
            return Receiver(entry["name"], node, self._services.keys.hpke_public)
        return Receiver(entry["name"], node, self._contact(node, "receiver").hpke)

    def _default_image(self) -> str:
        image = self._services.reference.only_image()
        if image is None:
            raise BadInput("this node holds not exactly one runtime image", "name runtime_image")
        return "0x" + image.hex()

    async def _bring(self, request: web.Request) -> object:
        """Fetch, check and load an image by its CID. The client waits as long as it takes."""
        body = await request.json()
        cid = body.get("cid") if isinstance(body, dict) else None
        if not isinstance(cid, str):
            raise BadInput("the request names no cid", "give the CID of an image")
        door = self._services.images.verification
        if door is None:
            raise BadInput(
                'this daemon lets no image in: services.guard is "apart"',
                "on the host itself: sealrun image fetch",
            )
        try:
            return (await door.bring(cid)).shown()
        except ImageError as error:
            raise _told(error) from error

    async def _task(self, request: web.Request) -> object:
        return view(self._known(request))

    async def _results(self, request: web.Request) -> object:
        case = self._known(request)
        role = case.receiver
        done = role is not None and role.path
        results = (
            [{"receiver": role.name, "cid": role.cid, "path": role.path}] if role and done else []
        )
        return {**brief(case), "outcome": outcome_of(case), "results": results}

    def _known(self, request: web.Request) -> Case:
        text = request.match_info["task"]
        case = self._services.store.case_of(TaskId(int(text))) if text.isdigit() else None
        if case is None:
            raise BadInput(f"task {text} is unknown here", "see the tasks: sealrun node status")
        return case


def _told(error: ImageError) -> SealrunError:
    """An image tool's one line, as message and next step; refusals are the asker's to mend."""
    message, _, next_step = str(error).rpartition("; ")
    kind = BadInput if isinstance(error, ImageRefused) else SealrunError
    return kind(message or next_step, next_step)


def listen_privately(path: Path) -> socket.socket:
    """A unix socket that nobody else could open at any moment: its mode is set by the bind."""
    listening = socket.socket(socket.AF_UNIX)
    former = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(former)
    return listening


def brief(case: Case) -> dict[str, object]:
    """One line about a Case."""
    roles = ("executor", "member", "broker", "receiver", "requester")
    held = {role: getattr(case, role).state.value for role in roles if getattr(case, role)}
    return {
        "task": case.task.id if case.task else None,
        "commitment": "0x" + case.commitment.hex(),
        "state": case.state.name if case.state else "UNPOSTED",
        "roles": held,
    }


def view(case: Case) -> dict[str, object]:
    """All that is worth showing of a Case."""
    task = case.task
    leader = task.executor if task and task.executor != ZERO_ADDRESS else None
    return {
        **brief(case),
        "executor": to_checksum_address(leader) if leader else None,
        "committee": [to_checksum_address(member) for member in case.members],
        "before_root": "0x" + case.before_root.hex() if case.before_root else None,
        "after_root": "0x" + case.after_root.hex() if case.after_root else None,
        "cause": case.cause or None,
        "why": WHY.get(case.cause),
        "outcome": outcome_of(case),
        "reasons": list(reasons_of(case)),
    }


def outcome_of(case: Case) -> dict[str, object] | None:
    """How the run ended, as far as one of this Node's roles knows."""
    known = [role.outcome for role in (case.requester, case.receiver, case.executor) if role]
    told = next((outcome for outcome in known if outcome), b"")
    if told:
        outcome = Outcome.from_body(cbor.decode(told, MAX_OUTCOME))
    elif case.member is not None and case.member.after:
        outcome = read_summary(case.member.after)[0]
    else:
        return None
    return {
        "status": outcome.status.value,
        "exit_code": outcome.exit_code,
        "errors": list(outcome.errors),
        "nothing_written_for": list(outcome.empty),
        "seconds": outcome.seconds,
    }


def reasons_of(case: Case) -> tuple[str, ...]:
    """Why this Node's roles stopped, refused or doubt."""
    found: tuple[str, ...] = ()
    if case.executor is not None and case.executor.reason:
        found += (case.executor.reason,)
    if case.member is not None:
        found += case.member.findings + tuple(map(str, case.member.reported))
    if case.broker is not None:
        found += case.broker.reasons
    if case.requester is not None:
        found += case.requester.reasons
    return found


def unhex(text: str) -> bytes:
    """Bytes of 0x… text. Raises ValueError."""
    return bytes.fromhex(text.removeprefix("0x"))


def answering(
    handler: Callable[[web.Request], Awaitable[object]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """JSON for every outcome."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(await handler(request))
        except SealrunError as error:
            status = 400 if isinstance(error, BadInput) else 503
            body = {"error": error.message, "next_step": error.next_step}
            return web.json_response(body, status=status)
        except TimeoutError:
            body = {"error": "no answer in time", "next_step": "ask again"}
            return web.json_response(body, status=503)

    return answer

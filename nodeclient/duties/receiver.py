"""Effects of receivers and requesters after the run: the Committee says how it ended and which
Capsule is the result; fetch, open, publish.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Literal

from agent.formats import cbor, hpke
from agent.formats.capsule import CapsuleHeader, Kind, parse_header
from agent.formats.cbor import FormatError
from agent.formats.hpke import OpenError
from agent.formats.outcome import Outcome
from agent.formats.protocol import result_info
from nodeclient.capsules.open import open_folder
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.types import Address, quorum_of
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.p2p.errors import PeerDeclined, PeerError
from nodeclient.p2p.messages import MAX_OUTCOME, ResultAnswer, ResultQuestion
from nodeclient.runner import Effect, Emit

DENIALS = 120  # rounds; a member that has not seen the end yet also says no, for some seconds


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""

    async def learn_outcome(action: do.LearnOutcome, emit: Emit) -> ev.OutcomeEvent:
        """Reads only."""
        answer = await agreed(action)
        if answer is None:
            services.note(action.commitment, "the committee has no result for this node")
            return ev.OutcomeDenied(commitment=action.commitment)
        outcome = outcome_in(answer)
        name, cid = next(iter(outcome.results.items()), ("", ""))
        services.note(action.commitment, f"the run ended: {outcome.summary}")
        return ev.OutcomeLearned(
            commitment=action.commitment,
            outcome=answer.outcome,
            owner=answer.owner,
            name=name,
            cid=cid,
        )

    async def fetch_result(action: do.FetchResult, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: blocks are content-addressed, the folder is published by a rename."""
        folder = Path(services.settings.results) / f"task-{action.task.id}"
        if not folder.exists():
            header = await pull(action.cid, (action.task.executor, *action.members))
            content_key = unseal(action, header)
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await asyncio.to_thread(
                open_folder,
                action.cid,
                folder,
                get=services.blocks.get,
                content_key=content_key,
                kind=Kind.RESULT,
                expect_owner=action.owner,
            )
        services.note(action.commitment, f"the result of task {action.task.id} is opened")
        return ev.ResultOpened(commitment=action.commitment, path=str(folder))

    async def agreed(action: do.LearnOutcome) -> ResultAnswer | None:
        """What a quorum of members says; one lying member, or the Executor alone, is not enough.

        None: for a while now too many said no. A member that is only silent is waited for.
        """
        quorum, denials = quorum_of(len(action.members)), 0
        while True:
            asking = [asyncio.create_task(told(member, action)) for member in action.members]
            votes: Counter[ResultAnswer | Literal["no"]] = Counter()
            try:
                for each in asyncio.as_completed(asking):
                    answer = await each
                    if answer is None:
                        continue
                    votes[answer] += 1
                    if answer != "no" and votes[answer] >= quorum:
                        return answer
            finally:
                for task in asking:
                    task.cancel()
            denials = denials + 1 if votes["no"] > len(action.members) - quorum else 0
            if denials >= DENIALS:
                return None
            await asyncio.sleep(RETRY_SECONDS)

    async def told(member: Address, action: do.LearnOutcome) -> ResultAnswer | Literal["no"] | None:
        question = ResultQuestion(action.commitment)
        try:
            answer = await services.ask_for(member, "result", question, ResultAnswer)
            outcome_in(answer)
        except PeerDeclined:
            return "no"
        except (PeerError, FormatError):
            return None
        return answer

    async def pull(cid: str, providers: tuple[Address, ...]) -> CapsuleHeader:
        """Bring every block of a Capsule into the own store."""
        try:
            header = parse_header(await services.fetch_block(cid, providers))
        except FormatError as error:
            raise PeerError(f"the result's header is malformed: {error}", "ask again") from None
        for chunk in header.chunks:
            await services.fetch_block(chunk, providers)
        return header

    def unseal(action: do.FetchResult, header: CapsuleHeader) -> bytes:
        parameters = services.me.parameters
        info = result_info(parameters.chain_id, parameters.market, action.task.id, action.name)
        try:
            return hpke.open(services.keys.hpke_private, info, header.sealed_key)
        except OpenError:
            raise PeerError("the result is not sealed to this node's key", "ask again") from None

    return {do.LearnOutcome: learn_outcome, do.FetchResult: fetch_result}


def outcome_in(answer: ResultAnswer) -> Outcome:
    """The outcome that a member told. Raises FormatError."""
    return Outcome.from_body(cbor.decode(answer.outcome, MAX_OUTCOME))

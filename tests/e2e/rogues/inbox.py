"""What rogue executors answer to their peers."""

from __future__ import annotations

from agent.formats import hpke, p256
from agent.formats.evidence import Evidence, build
from agent.formats.taskspec import TaskSpec
from nodeclient.core.case import Case
from nodeclient.core.types import Address, TaskState
from nodeclient.inbox import Inbox
from nodeclient.p2p import messages as msg
from nodeclient.p2p.errors import PeerRefused
from tests.e2e.rogues import Rogue


class RogueInbox(Inbox):
    """Honest but for the tasks that this node executes and whose fee names a rogue."""

    async def handle(self, sender: bytes, method: str, body: bytes) -> bytes:
        """See the base class."""
        running = self._running()
        rogue = Rogue.NOTHING
        if running is not None and running.task is not None:
            rogue = Rogue.of(running.task.executor_fee)
        if rogue & Rogue.WITHHOLD_RESULT and method == "block":
            raise PeerRefused("no such block here", "ask another peer")
        answer = await super().handle(sender, method, body)
        if running is not None and rogue & Rogue.OTHER_SESSION:
            return self._other_session(running, Address(sender), method, body, answer)
        return answer

    def _running(self) -> Case | None:
        """The admitted task that this node executes."""
        me = self._services.me.address
        for case in self._services.store.open_cases():
            mine = case.task is not None and case.task.executor == me
            if mine and case.state is TaskState.ADMITTED:
                return case
        return None

    def _other_session(
        self, case: Case, sender: Address, method: str, body: bytes, answer: bytes
    ) -> bytes:
        """To one owner other recorded Evidence, to the next another answer: with own keys in it."""
        assert case.executor is not None
        owners = [item.owner for item in TaskSpec.decode(case.executor.spec).inputs]
        asks = method == "question" and not msg.unpack(msg.Question, body).during
        if not ((method == "evidence" and sender == owners[0]) or (asks and sender in owners[1:])):
            return answer
        honest = Evidence.decode(answer)
        signer, (_, public) = p256.SigningKey.generate(), hpke.generate()
        claims = {**honest.claims(), "session": {"hpke": public, "signing": signer.public}}
        return build(claims, honest.nonce, signer.sign).encode()

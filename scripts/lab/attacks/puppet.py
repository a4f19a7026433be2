"""An attacker's Agent: it states whatever its Pi tells it to, and signs that.

It lies in a rogue boot image as `agent/__main__.py`, and runs there: nothing else of the Agent is
changed.
"""

from __future__ import annotations

import sys

from agent import main as genuine
from agent.evidence import TaskFacts, Witness
from agent.formats.messages import Question
from agent.serve import Service

_lies: dict[str, object] = {}


class LyingWitness(Witness):
    """Claims of one's own in place of true ones."""

    def _claims(self, question: Question, facts: TaskFacts) -> dict[str, object]:
        return super()._claims(question, facts) | _lies


class LyingService(Service):
    """One more call: `lie`, with the claims to state from now on."""

    async def handle(self, method: str, body: object) -> object:
        if method != "lie":
            return await super().handle(method, body)
        assert isinstance(body, dict)
        _lies.clear()
        _lies.update(body)
        return None


if __name__ == "__main__":
    vars(genuine).update(Witness=LyingWitness, Service=LyingService)
    sys.exit(genuine.main())

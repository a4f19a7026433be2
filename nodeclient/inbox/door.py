"""What peers may ask of this Node, by method, and what they are told when it is refused.

The transport has authenticated the sender. Here the bytes are parsed (bounded) and the fact is put
to the rules (`facts`), or the question answered without them (`reading`); admissions have their own
(`duties.admitting`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agent.formats.cbor import FormatError
from agent.formats.hpke import OpenError
from nodeclient.capsules.errors import BlockCorrupt
from nodeclient.core.types import Address
from nodeclient.duties.admitting import Admitter
from nodeclient.duties.services import Services
from nodeclient.errors import MachineError, MachineRefused, SealrunError
from nodeclient.inbox.cases import Cases
from nodeclient.inbox.facts import Facts
from nodeclient.inbox.reading import Reading
from nodeclient.p2p.errors import PeerBusy, PeerRefused
from nodeclient.p2p.limits import OverLimit
from nodeclient.runner import RefusedByPeer, Runner

# Refusals that stand in the journal elsewhere, or that belong to the course of things: these are
# asked again until the answer is yes.
UNNOTED = frozenset(
    {
        *("consent", "nonce", "appraise", "result", "block", "question", "activate", "running"),
        "motion_vote",
    }
)
BEFORE_ADMISSION = frozenset({"motion_vote", "alive"})  # all that a PENDING Node can ask


class Inbox:
    """``handle`` is the transport's handler."""

    def __init__(
        self, services: Services, runner: Runner, admitter: Admitter | None = None
    ) -> None:
        self._services = services
        cases = Cases(services)
        self._methods: dict[str, Callable[[Address, bytes], Awaitable[bytes]]] = {
            **Facts(services, runner, cases).methods(),
            **Reading(services, cases).methods(),
            **(admitter.methods() if admitter is not None else {}),
        }

    async def handle(self, sender: bytes, method: str, body: bytes) -> bytes:
        """Answer, or raise PeerRefused with one line for the peer."""
        try:
            serve = self._methods.get(method)
            if serve is None:
                raise PeerRefused(f"no method {method[:32]!r}", "update the node")
            if method not in BEFORE_ADMISSION and self._services.directory.is_pending(sender):
                raise PeerRefused("not admitted yet", "ask for admission first")
            return await serve(Address(sender), body)
        except (FormatError, SealrunError, OpenError, ValueError) as error:
            refusal = refusal_of(error)
            if method not in UNNOTED:
                # The reason may quote a TaskSpec: the sealed journal tells it, the log does not.
                who = f"refused {method[:32]} to 0x{sender.hex()}"
                self._services.note(None, who, f": {refusal.message[:160]}")
            raise refusal from None
        except (TimeoutError, OverLimit):
            raise PeerBusy("busy", "ask again") from None


def refusal_of(error: Exception) -> PeerRefused:
    """What a peer is told. The Node's own troubles name paths, logs and endpoints: not to peers."""
    match error:
        case PeerRefused():
            return error
        case RefusedByPeer() | MachineRefused():
            return PeerRefused(error.message, "read the reason")
        case BlockCorrupt():  # it does not heal: who is told "busy" would wait in vain
            return PeerRefused("no such block here", "ask another peer")
        case MachineError():
            return PeerRefused("no machine runs this task here", "ask while it runs")
        case SealrunError():
            return PeerBusy("this node cannot answer that now", "ask again later")
        case _:
            return PeerRefused(str(error), "read the reason")

"""Nodes with real keys on a test chain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric import ec

from nodeclient.chain import registration, registry
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.sender import Sender
from nodeclient.core.digests import vote_digest
from nodeclient.core.types import Address, Phase, TaskId, Verdict, Vote
from nodeclient.identity.keys import NodeKeys
from nodeclient.identity.registration import prepare_registration, write_registration
from nodeclient.roots.software import SoftwareRoot
from tests.chain.conftest import FAST, World

UNIT = 10**18


@dataclass(frozen=True)
class Person:
    """A registered Node: root, keys and a sender on its own account."""

    root: SoftwareRoot
    keys: NodeKeys
    sender: Sender

    @property
    def address(self) -> Address:
        return Address(self.keys.address)

    def vote(
        self,
        world: World,
        task: TaskId,
        phase: Phase,
        header: bytes,
        verdict: Verdict,
        valid_until: int = 10**6,
    ) -> Vote:
        """A signed vote (EIP-712, EIP-2098)."""
        unsigned = Vote(
            task, phase, 1, header, verdict, valid_until, self.address, bytes(32), bytes(32)
        )
        ledger = world.deployment["AttestationLedger"].address
        digest = vote_digest(world.deployment.chain_id, ledger, unsigned)
        made = PrivateKey(self.keys.account).sign_recoverable(digest, hasher=None)
        vs = int.from_bytes(made[32:64], "big") | made[64] << 255
        return Vote(
            task,
            phase,
            1,
            header,
            verdict,
            valid_until,
            self.address,
            made[:32],
            vs.to_bytes(32, "big"),
        )


def newcomer(world: World) -> Person:
    """A Node with fresh keys and 100 ether, not registered yet."""
    root = SoftwareRoot(ec.generate_private_key(ec.SECP256R1()))
    keys = NodeKeys.generate(root)
    world.node.rpc("anvil_setBalance", "0x" + keys.address.hex(), hex(100 * UNIT))
    journal = SqliteJournal(":memory:")
    return Person(root, keys, Sender(world.rpc, world.deployment, journal, keys.account, FAST))


def registration_file(world: World, person: Person, folder: Path) -> Path:
    """Write the Node's registration.json as `sealrun node init` does."""
    folder.mkdir(exist_ok=True)
    return write_registration(
        folder,
        prepare_registration(
            person.root,
            person.keys,
            chain_id=world.deployment.chain_id,
            registry=world.deployment["NodeRegistry"].address,
            endpoint="127.0.0.1:7000",
        ),
    )


async def member(world: World, folder: Path, *, units: int = 1, join: bool = True) -> Person:
    """A registered Node."""
    person = newcomer(world)
    found = registration.load(registration_file(world, person, folder))
    await person.sender.execute(registry.register("register", found, units * UNIT, join=join))
    return person

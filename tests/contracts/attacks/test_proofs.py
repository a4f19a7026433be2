"""Forged VRF proofs: later counters, other secrets, points of the prover's choice, off the curve"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Final

from nodeclient.core import ecvrf, vrf_witness
from nodeclient.core.curves import SECP256K1, Point, compress
from nodeclient.core.vrf_witness import OnChainProof
from tests.contracts.attacks.chance import SUITE, raced, ticket_of
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import DELAY, Network, Refused, Task
from tests.contracts.signing import NodeKeys

P, N, BASE = SECP256K1.p, SECP256K1.n, SECP256K1.generator
COUNTERS: Final = 41


def removal(name: str, defence: str, old: str, new: str) -> Removal:
    """A check of `modules/ecvrf.vy`, taken out of the market."""
    return Removal(name, f"`ecvrf`: {defence}", "modules/ecvrf.vy", old, new, contract="TaskMarket")


COUNTER: Final = removal(
    "ecvrf-counter",
    "every counter before the one used is proved to give no point",
    'assert x >= P and root == 0, "ecvrf: counter not proved invalid"',
    "pass",
)
CHALLENGE: Final = removal(
    "ecvrf-challenge",
    "c is the hash of all points, Gamma among them",
    """(h_x << 224) | (gamma >> 16),
                        (proof.gamma_x << 216) | (((proof.u_y""",
    """(h_x << 224),
                        (((proof.u_y""",
)
C_GAMMA: Final = removal(
    "ecvrf-c-gamma",
    "c times Gamma by ecrecover, which knows no point off the curve",
    '<< 96 == 0, "ecvrf: cGamma"',
    '<< 256 == 0, "ecvrf: cGamma"',
)
U_POINT: Final = removal(
    "ecvrf-u",
    "U by ecrecover from the registered key",
    "<< 96\n    ) | (",
    "<< 256\n    ) | (",
)
S_H: Final = removal(
    "ecvrf-s-h",
    "s times H by ecrecover",
    '<< 96 == 0, "ecvrf: sH"',
    '<< 256 == 0, "ecvrf: sH"',
)


@dataclass(frozen=True, slots=True)
class Prover:
    """A node that has lost the race, and what it knows."""

    network: Network
    task: Task
    keys: NodeKeys

    @property
    def alpha(self) -> bytes:
        """The VRF input."""
        return self.network.alpha(self.task, self.keys.address)

    @property
    def public(self) -> bytes:
        """The registered key."""
        return ecvrf.public_key(SUITE, self.keys.vrf)

    @property
    def secret(self) -> int:
        """Its secret."""
        return int.from_bytes(self.keys.vrf, "big")

    def h(self) -> tuple[Point, tuple[int, ...]]:
        """The right H, and the words for the counters before it."""
        encoded = ecvrf.encode_to_curve(SUITE, self.public, self.alpha)
        return encoded.point, tuple(map(vrf_witness.non_residue_root, encoded.rejected))

    def challenge(self, h: Point, gamma: Point, u: Point, v: Point) -> int:
        """c as the RFC says."""
        return ecvrf.challenge(SUITE, ecvrf.decode_key(SUITE, self.public), h, gamma, u, v)

    def ticket(self, beta: bytes) -> int:
        """The ticket of an output."""
        return ticket_of(self.network, self.task, self.keys, beta)

    def wins(self, gamma: Point) -> bool:
        """Whether the output of this Gamma would lead; of an unled race: do better than its own."""
        beta = hashlib.sha256(b"\xfe\x03" + compress(gamma) + b"\x00").digest()
        own = self.ticket(self.network.beta(self.task, self.keys))
        return self.ticket(beta) < (self.task.ticket or own)

    def winning_multiple(self, point: Point) -> tuple[int, Point]:
        """A small multiple of a point that would lead as Gamma."""
        for number in itertools.count(2):
            gamma = times(number, point)
            if self.wins(gamma):
                return number, gamma
        raise AssertionError

    def lead(self, proof: OnChainProof) -> None:
        """Claim with this proof, and lead with the output that it gives."""
        header = self.network.header_of(self.task.posted_at + DELAY)
        call = self.network.market.functions.claim(
            self.task.as_tuple(), header, *proof.as_arguments()
        )
        led = self.network.fold(self.task, self.network.send(self.keys.address, call))
        assert led.executor == self.keys.address
        assert led.beta != self.network.beta(self.task, self.keys)


def loser(network: Network) -> Prover:
    """The node whose ticket is the last of all, in a race that another one leads."""
    return Prover(network, *raced(network))


def times(factor: int, point: Point) -> Point:
    """factor * point, which is not infinity."""
    product = SECP256K1.combine((factor % N, point))
    assert product is not None
    return product


def minus(a: Point, b: Point) -> Point:
    """a - b, which is not infinity."""
    difference = SECP256K1.combine((1, a), (N - 1, b))
    assert difference is not None
    return difference


def assembled(
    gamma: Point, s: int, u: Point, sh: Point, cg: Point, roots: tuple[int, ...]
) -> OnChainProof:
    """The proof with the line that goes through its points."""
    slope = (sh[1] + cg[1]) * pow(cg[0] - sh[0], -1, P) % P
    offset = (cg[1] - slope * cg[0]) % P
    prefix = 2 | gamma[1] & 1
    return OnChainProof(gamma[0], prefix, s, slope, offset, u[0], P - u[1], sh[0], cg[0], roots)


@attack("ecvrf: counter not proved invalid", COUNTER)
def test_proof__later_counter__refused(network: Network) -> None:
    """The prover tries 41 counters, of which about 20 give a point, for an output that it likes"""
    prover = loser(network)
    nonce, roots, stopped = 0xC0FFEE, list[int](), None
    first = prover.h()[0]
    for counter in range(COUNTERS):
        data = b"\xfe\x01" + prover.public + prover.alpha + bytes((counter, 0))
        x = int.from_bytes(hashlib.sha256(data).digest(), "big")
        h = SECP256K1.decompress(2, x)
        if h is None:
            roots.append(vrf_witness.non_residue_root(x))
            continue
        gamma = times(prover.secret, h)
        if h != first and prover.wins(gamma):
            u, v = times(nonce, BASE), times(nonce, h)
            c = prover.challenge(h, gamma, u, v)
            s = (nonce + c * prover.secret) % N
            snapshot = network.chain.rpc("evm_snapshot", [])
            try:
                prover.lead(assembled(gamma, s, u, times(s, h), times(c, gamma), tuple(roots)))
            except Refused as refusal:
                stopped = refusal
                assert network.chain.rpc("evm_revert", [snapshot])  # it only simulated
            else:
                return
        roots.append(0)
    assert stopped is not None
    raise stopped


@attack("ecvrf: U", CHALLENGE)
def test_proof__gamma_chosen_after_the_challenge__refused(network: Network) -> None:
    """Were Gamma no part of what c is the hash of, it could be solved for once c is known

    Nobody leads: without the defence an honest proof, whose c covers Gamma, does not hold.
    """
    task = network.post()
    network.open_claims(task)
    prover = Prover(network, task, network.free_node())
    h, roots = prover.h()
    nonce = 0xC0FFEE
    for other in itertools.count(2):
        u, v = times(nonce, BASE), times(other, h)
        points = prover.public + compress(h) + bytes(33) + compress(u) + compress(v)
        c = int.from_bytes(hashlib.sha256(b"\xfe\x02" + points + b"\x00").digest()[:16], "big")
        s = (nonce + c * prover.secret) % N
        sh = times(s, h)
        cg = minus(sh, v)
        gamma = times(pow(c, -1, N), cg)
        if prover.wins(gamma):
            prover.lead(assembled(gamma, s, u, sh, cg, roots))
            return


@attack("ecvrf: cGamma", C_GAMMA)
def test_proof__gamma_off_the_curve__refused(network: Network) -> None:
    """Gamma is on no curve point: its multiple is said to be one that makes the proof fit"""
    prover = loser(network)
    h, roots = prover.h()
    off = (x for x in itertools.count(2) if SECP256K1.decompress(2, x) is None)
    gamma = next((x, 0) for x in off if prover.wins((x, 0)))
    nonce = 0xC0FFEE
    u, v = times(nonce, BASE), times(nonce, h)
    c = prover.challenge(h, gamma, u, v)
    s = (nonce + c * prover.secret) % N
    sh = times(s, h)
    prover.lead(assembled(gamma, s, u, sh, minus(sh, v), roots))


@attack("ecvrf: U", U_POINT)
def test_proof__another_secret_than_the_registered__refused(network: Network) -> None:
    """The prover uses whichever secret wins, and says that U came out right"""
    prover = loser(network)
    h, roots = prover.h()
    secret, gamma = prover.winning_multiple(h)
    nonce = 0xC0FFEE
    u, v = times(nonce, BASE), times(nonce, h)
    c = prover.challenge(h, gamma, u, v)
    s = (nonce + c * secret) % N
    prover.lead(assembled(gamma, s, u, times(s, h), times(c, gamma), roots))


@attack("ecvrf: sH", S_H)
def test_proof__gamma_unrelated_to_the_input__refused(network: Network) -> None:
    """Gamma has nothing to do with H: what is said to be s times H makes the proof fit"""
    prover = loser(network)
    h, roots = prover.h()
    _, gamma = prover.winning_multiple(BASE)
    nonce = 0xC0FFEE
    u, v = times(nonce, BASE), times(nonce + 1, BASE)
    c = prover.challenge(h, gamma, u, v)
    s = (nonce + c * prover.secret) % N
    cg = times(c, gamma)
    sh = SECP256K1.combine((1, v), (1, cg))
    assert sh is not None
    prover.lead(assembled(gamma, s, u, sh, cg, roots))

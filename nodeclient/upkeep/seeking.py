"""Wires judging and seeking of admissions to a Node's adapters."""

from __future__ import annotations

import json
from pathlib import Path

from agent.formats.endorsement import Endorsement
from nodeclient.attestation.makers import load_makers
from nodeclient.chain.admission import NO_VOUCH, AdmissionLedger
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.rpc import Rpc
from nodeclient.config.node import Config
from nodeclient.core.admission import MAKER_ZYMBIT
from nodeclient.core.checks.origin import SIMULATED_ROOT
from nodeclient.core.hardware import makers_of
from nodeclient.core.tpm.endorsement import EndorsementError, check_endorsement
from nodeclient.core.types import RootClass
from nodeclient.duties.admitting import Admitter
from nodeclient.duties.motions import Motions
from nodeclient.duties.proposing import Proposer
from nodeclient.duties.seeking import Seeker, Vouch
from nodeclient.duties.services import Services
from nodeclient.errors import BadInput
from nodeclient.ports import Root
from nodeclient.upkeep.decisions import Decisions

VOUCH = "vouch.json"
MAX_FILE = 4096


class VouchInvalid(BadInput):
    """`vouch.json` is not what an admitter gave."""


class MakerUnknown(BadInput):
    """No certificate among the makers' stands over this Node's own chip."""


def build_admitter(config: Config, services: Services, rpc: Rpc, deployed: Deployment) -> Admitter:
    """The Node as a member of admission committees, and as a candidate that is asked."""
    return Admitter(
        me=services.me.address,
        chain_id=deployed.chain_id,
        account=lambda: services.keys.account,
        root=services.root,
        chain=services.chain,
        ledger=AdmissionLedger(rpc, deployed),
        ask=services.ask,
        makers=config.path(config.machine.ek_roots),
        accept_simulated=SIMULATED_ROOT in config.machine.accept_simulated,
        decide=Decisions(config.folder, services.store).decide,
    )


def build_seeker(config: Config, services: Services, admitter: Admitter) -> Seeker:
    """The Node's own way in."""
    return Seeker(
        admitter,
        root=services.root,
        chain=services.chain,
        sender=services.sender,
        ask=services.ask,
        maker=lambda: maker_of(services.root, config.path(config.machine.ek_roots)),
        vouch=lambda: load_vouch(config.folder / VOUCH),
        poll_seconds=config.chain.poll_seconds,
    )


def build_proposer(config: Config, services: Services, admitter: Admitter) -> Proposer:
    """What the Node moves for its operator."""
    motions = Motions(admitter, chain=services.chain, sender=services.sender, ask=services.ask)
    return Proposer(admitter, motions, services.chain, config.chain.poll_seconds)


def maker_of(root: Root, makers: Path) -> bytes:
    """Digest of who made a root: of a TPM, SHA-256 of the topmost certificate in `makers` over
    its EK's. Members compute the same from their own and refuse another.

    Raises MakerUnknown, MakersUnreadable, RootError, FormatError.
    """
    if root.class_id == RootClass.ZYMKEY:
        return MAKER_ZYMBIT
    said, believed = Endorsement.decode(root.endorsement()), load_makers(makers)
    try:
        check_endorsement(said.certificates, said.ek, believed)
    except EndorsementError as error:
        raise MakerUnknown(
            f"no certificate in {makers} stands over this node's TPM", "put its maker's root there"
        ) from error
    return makers_of(said.certificates, believed)[0]


def load_vouch(path: Path) -> Vouch:
    """What an admitter signed: {"valid_until": 1, "r": 2, "vs": 3}; without a file, nothing.

    Raises VouchInvalid.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return NO_VOUCH
    except OSError as error:
        raise VouchInvalid(f"{path}: {error.strerror}", "check the file") from error
    try:
        if len(raw) > MAX_FILE:
            raise ValueError("too long")
        said = json.loads(raw)
        until, r, vs = (_natural(said[name]) for name in ("valid_until", "r", "vs"))
        if until >= 1 << 64:
            raise ValueError("too large")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise VouchInvalid(f"{path} is no vouch", "ask the admitter for it again") from error
    return until, (r, vs)


def _natural(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 256:
        raise ValueError("no natural number")
    return value

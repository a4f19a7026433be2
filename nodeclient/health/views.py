"""The picture as JSON: what the control interface answers and ``sealrun node status --json`` shows.

Amounts in wei are strings, because they are larger than a double holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_utils.address import to_checksum_address

from nodeclient.core.health import ChainPart, GuardPart, ImagePart, Picture, RegistryPart
from nodeclient.core.verdict import Remark, behind, healthy, unwatched


def as_json(picture: Picture, remarks: tuple[Remark, ...]) -> dict[str, object]:
    """Everything, with the verdict first."""
    root, peers, tasks = picture.root, picture.peers, picture.tasks
    return {
        "healthy": healthy(remarks),
        "faults": [_remark(each) for each in remarks if each.is_fault],
        "notices": [_remark(each) for each in remarks if not each.is_fault],
        "at": picture.at,
        "started_at": picture.started_at,
        "account": to_checksum_address(picture.account),
        "root": {
            "class": root.root_class.name,
            "simulated": root.simulated,
            "usable": root.health.usable,
            "tampered": root.health.tampered,
            "detail": root.health.detail,
        },
        "chain": None if picture.chain is None else _chain(picture.chain, picture.at),
        "registry": None
        if picture.chain is None or picture.chain.registry is None
        else _registry(picture.chain.registry),
        "images": [_image(image) for image in picture.images],
        "machine": {
            "banned": picture.machine.banned,
            "incidents": dict(picture.machine.incidents),
        },
        "services": None if picture.guard is None else _guard(picture.guard, picture.chain),
        "peers": None
        if peers is None
        else {
            "known": peers.known,
            "asked": peers.asked,
            "reachable": peers.reachable,
            "findings": peers.findings,
        },
        "tasks": None
        if tasks is None
        else {"open": dict(tasks.open), "known": tasks.known, "ended": dict(tasks.ended)},
    }


def codes(remarks: Sequence[Remark]) -> tuple[str, ...]:
    """The words of a verdict, sorted: two verdicts are alike when these are."""
    return tuple(sorted(remark.code.value for remark in remarks))


def _remark(remark: Remark) -> dict[str, object]:
    return {"code": remark.code.value, "text": remark.text, "next_step": remark.next_step}


def _chain(chain: ChainPart, now: int) -> dict[str, object]:
    return {
        "head": chain.head,
        "age_seconds": now - chain.head_at,
        "applied": chain.applied,
        "behind": behind(chain),
    }


def _guard(guard: GuardPart, chain: ChainPart | None) -> dict[str, object]:
    return {
        "watched": guard.watched or None,
        "behind": None if chain is None else unwatched(guard, chain),
    }


def _registry(record: RegistryPart) -> dict[str, object]:
    return {
        "status": record.status.name,
        "deposit_wei": str(record.deposit),
        "unit_wei": str(record.unit),
        "reputation_bps": record.reputation,
        "engaged": record.engaged,
    }


def _image(image: ImagePart) -> dict[str, object]:
    return {
        "use": image.use.value,
        "id": "0x" + image.id.hex(),
        "standing": image.standing.value if image.standing else None,
        "ends_at": image.ends_at or None,
    }

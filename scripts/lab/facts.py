"""What the PC proved about itself, read from the Evidence that the Pi keeps.

Its root stands on chain: what is shown here is what the committee affirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from agent.formats.erasure import ErasureProof
from agent.formats.evidence import Evidence
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from nodeclient.core import claims
from nodeclient.core.erasure import read_quoted, uncovered
from nodeclient.core.tpm.material import read_material
from nodeclient.core.types import Address
from nodeclient.duties.machine import evidence_key
from nodeclient.identity.folder import open_folder
from nodeclient.store.database import Store
from scripts.embedded.node import NodeProcess
from scripts.lab.network import PI, LabNetwork

# Firmware code, boot loader and kernel, command line and initrd as the kernel measured them, and
# the parts of the boot image: these are compared with what was computed from files.
SHOWN_PCRS: Final = (0, 4, 9, 11)


def facts_of(network: LabNetwork, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Phase → facts. ``records``: phase → what stands on chain, with ``evidence_root``.

    Raises:
        RuntimeError: the Pi does not keep the Evidence of a record.
        FormatError: Evidence without a quote.
    """
    pi = network.workers[PI]
    registered = asyncio.run(_registered_key(network, pi))
    return {
        phase: {**_facts(evidence_of(pi, record["evidence_root"])), "registered_key": registered}
        for phase, record in records.items()
    }


def evidence_of(node: NodeProcess, root: str) -> Evidence:
    """The Evidence with this root (0x…) from an executor's own file. Raises RuntimeError."""
    store = Store(node.folder / "node.db", open_folder(node.folder).load_store_key())
    try:
        found = store.blob(evidence_key(bytes.fromhex(root.removeprefix("0x"))))
    finally:
        store.close()
    if found is None:
        raise RuntimeError(f"{node.name} keeps no evidence {root}; look at its log")
    return Evidence.decode(found)


def _facts(evidence: Evidence) -> dict[str, Any]:
    boot, material = claims.boot(evidence), read_material(evidence)
    known = material.facts()  # raises for material that does not parse
    assert material.log is not None
    return {
        **_erased(evidence),
        "vouch": claims.vouch(evidence),
        "boot_image": boot.image.hex(),
        "boot_count": boot.count,
        "attestation_key": known.key.hex(),
        "resets": known.resets,
        "restarts": known.restarts,
        "clock_ms": known.time_ms,
        "pcrs": {str(pcr): material.log.values[pcr].hex() for pcr in SHOWN_PCRS},
        "events": len(material.log.events),
        "ima_entries": material.covered,
        "simulated": list(claims.simulated(evidence)),
        "not_checked": list(claims.not_checked(evidence)),
    }


def _erased(evidence: Evidence) -> dict[str, Any]:
    """Of AFTER: what the proof of erasure covers. Empty before the run."""
    if "proof" not in evidence.names:
        return {}
    proof = ErasureProof.decode(claims.proof(evidence))
    quoted = read_quoted(proof)
    left = uncovered(claims.memory(evidence), proof.ranges)
    return {
        "eraser_image": proof.image.hex(),
        "eraser_resets": quoted.attested.clock.resets,
        "ram_erased_bytes": proof.covered,
        "ram_not_covered_bytes": left,
    }


async def _registered_key(network: LabNetwork, node: NodeProcess) -> str:
    rpc = Rpc(network.chain.url)
    try:
        account = Address(bytes.fromhex(node.account[2:]))
        record = await NodeRegistry(rpc, network.deployment).node(account)
    finally:
        await rpc.close()
    if record is None:
        raise RuntimeError(f"{node.name} is not in the registry; look at its log")
    return record.attestation_key.hex()


def rows_of(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Fact → phase → text, for a table."""
    names = list(dict.fromkeys(name for found in facts.values() for name in found))
    shown: dict[str, dict[str, str]] = {}
    for name in names:
        for phase, found in facts.items():
            value = found.get(name, "")
            if isinstance(value, Mapping):
                for key, entry in value.items():
                    shown.setdefault(f"{name} {key}", {})[phase] = str(entry)
            else:
                text = ", ".join(value) if isinstance(value, list) else str(value)
                shown.setdefault(name.replace("_", " "), {})[phase] = text
    return shown

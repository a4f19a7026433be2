"""The table: every parser of foreign bytes, or the reason why one needs no row."""

from __future__ import annotations

from functools import cache

from tests.fuzz import (
    cable_targets,
    erasure_targets,
    image_targets,
    machine_targets,
    peer_targets,
    root_targets,
    tpm_targets,
)
from tests.fuzz.check import Target

PACKAGES = (
    *("agent", "nodeclient.p2p", "nodeclient.chain", "nodeclient.core", "nodeclient.machine"),
    *("nodeclient.duties", "nodeclient.health", "nodeclient.images", "nodeclient.roots"),
)

# Functions that are named like parsers and read nothing that a stranger wrote.
EXCLUDED = {
    "agent.formats.capsule:open_stream": "headers come from parse_header; chunks are decrypted",
    "nodeclient.chain.attempts:load": "the Node's own journal, in its own database",
    "nodeclient.chain.journal:SqliteJournal.load": "the Node's own journal",
    "nodeclient.chain.registration:load": "a file that the operator's own Node wrote",
    "nodeclient.chain.deployment:load": "bounds the file; then deployment.parse",
    "nodeclient.machine.channel_keys:KeySlot.load": "sealed by the Node's own root",
    "nodeclient.images.load:load_image": "check_image_tar, then the engine",
    "nodeclient.images.lock:read_lock": "a file of this repository",
    "agent.engine:Engine.load": "a tar that check_image_tar has verified",
    "nodeclient.core.odds:split_finest": "arithmetic",
    "agent.session:Session.open_any": "hpke.open",
    "agent.formats.cbor:decode_again": "bytes that decode has accepted before",
    "agent.system:load_drivers": "kernel modules",
    "agent.system:load_disk_modules": "kernel modules",
    "nodeclient.machine.netboot.image:open_image": "BootManifest.decode; files only hashed",
    "nodeclient.images.boot.kernel:open_kernel": "a file whose hash an approved manifest names",
    "nodeclient.images.boot.pe:Pe.parse": "a file whose hash an approved manifest names",
    "nodeclient.images.boot.reference:open_boot_files": "BootManifest.decode, then files by hash",
    "nodeclient.images.boot.reference:open_eraser": "BootManifest.decode, then a file by hash",
    "nodeclient.images.eraser.workshop:open_workshop": "packages whose versions the lock names",
    "nodeclient.roots.choose:open_root": "a configuration that was read before",
    "nodeclient.roots.software:SoftwareRoot.load": "the operator's own encrypted key",
    "nodeclient.roots.tpm2.root:Tpm2Root.load": "KeyFile.load",
    "nodeclient.roots.tpm2.chip:EndorsementKeys.load": "loads a key into the TPM, reads nothing",
    "nodeclient.roots.tpm2.objects:KeyFile.load": "KeyFile.decode",
    "nodeclient.roots.zymkey.root:ZymkeyRoot.load": "the operator's own file",
    "nodeclient.roots.zymkey.worker:open_client": "opens a device",
    "nodeclient.health.target:load_target": "files of the operator's, which nobody else may read",
    "nodeclient.health.state:open_tasks": "the Node's own database",
    "nodeclient.health.wiring:open_webhook": "load_target",
    "nodeclient.images.boot.wheels:unpack": "wheels whose hashes the lock names",
}


@cache
def targets() -> dict[str, Target]:
    """Every target by its name."""
    found = [
        *cable_targets.all_targets(),
        *erasure_targets.all_targets(),
        *image_targets.all_targets(),
        *machine_targets.all_targets(),
        *peer_targets.all_targets(),
        *root_targets.all_targets(),
        *tpm_targets.all_targets(),
    ]
    named = {target.name: target for target in found}
    assert len(named) == len(found), "two targets have one name"
    return named

"""A rogue boot image under an honest name, and the lies of the Agent in it.

Its root file system has a file more (and its own hash on the command line), its kernel a parameter
more, its initramfs puts another Agent in place. The attacker's Pi serves it, and says that it is
the approved image. Each attack lies about all of it but one thing; what a TPM measured stays.
"""

from __future__ import annotations

import functools
import os
import random
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.boot import BootParameters
from agent.formats.bootimage import EFI, KERNEL_MAP, MANIFEST, ROOT
from agent.formats.evidence import Evidence
from agent.formats.hashes import sha256
from agent.formats.measure import answer_ranges, choose_ranges, measure_tree, tree_files
from agent.formats.quote import MAX_EVENT_LOG
from nodeclient.core import claims
from nodeclient.core.images import ImageKind
from nodeclient.errors import MachineError
from nodeclient.images.boot.keep import BuiltBoot, place
from nodeclient.images.boot.reference import BootFiles, open_boot_files
from nodeclient.images.boot.tree import file
from nodeclient.images.boot.variant import make_variant
from nodeclient.machine.link import LinkKeys
from nodeclient.machine.measure import agent_folder
from nodeclient.machine.netboot import NetbootMachine
from nodeclient.machine.netboot.order import BootOrder
from scripts.lab.attacks.early import init_with
from scripts.lab.attacks.memory import draw
from scripts.lab.attacks.wire import Reasons
from scripts.lab.rig import Rig
from scripts.lab.verifier import said

PUPPET: Final = Path(__file__).with_name("puppet.py")
OPTION: Final = "audit=0"  # a kernel parameter more
_EXTRA = 1 << 20  # bytes, incompressible: the root grows, so that every range of it is another one
_MAIN = "__main__.py"
_INIT_SAYS = "sealrun: .*; power off"  # on the console, by init.sh
_AGENT = "/new/usr/lib/sealrun/agent"
# TCG_PCR_EVENT2 in a log of one bank: PCR, type, count, algorithm; then digest and size.
_BEFORE_DIGEST, _DIGEST = 14, 32


def boot_rogue(rig: Rig) -> None:
    """Build it and boot it; the verifier meets this Machine for the first time."""
    boot_forged(rig, make_rogue(rig))


def boot_forged(rig: Rig, image: BuiltBoot) -> None:
    """Boot an image by a Pi that asks no chain, and says that it is the approved one."""
    approved = rig.image.image_id

    class ForgedMachine(NetbootMachine):
        def _order(self, keys: LinkKeys, boot_count: int) -> BootOrder:
            order = super()._order(keys, boot_count)
            told = replace(BootParameters.decode(order.parameters), image=approved)
            return replace(order, parameters=told.encode())

    rig.boot(image, ForgedMachine, _believe)


def make_rogue(rig: Rig) -> BuiltBoot:
    """The image: another root, another kernel command line, another Agent."""
    copy = f"$B rm -f {_AGENT}/__pycache__/__main__.*; $B cp /puppet.py {_AGENT}/__main__.py\n"
    overlay = {"init": init_with(copy), "puppet.py": file(PUPPET.read_bytes())}
    with tempfile.TemporaryDirectory(dir=rig.folder) as name:
        return make_variant(
            other_root(rig.image, Path(name)), rig.folder / "rogue", (OPTION,), overlay
        )


def other_root(base: BuiltBoot, folder: Path) -> BuiltBoot:
    """`base` with one file more in its root; its manifest names the new hash."""
    for same in (EFI, KERNEL_MAP):
        os.link(base.path / same, folder / same)
    root, extra = folder / ROOT, folder / "extra"
    root.write_bytes((base.path / ROOT).read_bytes())
    extra.mkdir()
    (extra / "attacker").write_bytes(random.Random(7).randbytes(_EXTRA))  # noqa: S311
    words = ["mksquashfs", str(extra), str(root), "-all-root", "-no-progress", "-quiet"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    shutil.rmtree(extra)
    content = root.read_bytes()
    old, new = base.manifest.root_sha256, sha256(content)
    manifest = replace(
        base.manifest,
        root_sha256=new,
        root_size=len(content),
        command_line=base.manifest.command_line.replace(old.hex(), new.hex()),
    )
    (folder / MANIFEST).write_bytes(manifest.encode())
    return BuiltBoot(manifest, folder)


def unpinned_root(rig: Rig) -> Reasons:
    """The kernel gets a root file system that its command line does not name."""
    (folder := rig.folder / "unpinned").mkdir()
    # The approved image, but for a console: it shows what the Machine stumbled over.
    known = make_variant(rig.image, folder, ("console=ttyS0",))
    with tempfile.TemporaryDirectory(dir=rig.folder) as name:
        (work := Path(name, "image")).mkdir()
        changed = other_root(known, work)
        manifest = replace(changed.manifest, command_line=known.manifest.command_line)
        (work / MANIFEST).write_bytes(manifest.encode())
        served = place(work, folder)
    try:
        boot_forged(rig, served)
    except MachineError as error:
        shown = rig.pc.console.read_text("ascii", "replace")
        words = re.findall(_INIT_SAYS, shown)
        return f"machine: {error.message}", *(f"console: {each}" for each in words)
    return ()


def modified_uki(rig: Rig) -> Reasons:
    """Every claim is that of the approved image; the TPM saw what was booted."""
    return _stating(rig, {})


def command_line(rig: Rig) -> Reasons:
    """The kernel's true command line is stated."""
    return _stating(rig, {}, but=("boot",))


def root(rig: Rig) -> Reasons:
    """The true root file system is stated; its hash stands on a command line that was changed."""
    return _stating(rig, {}, but=("root",))


def replaced_agent(rig: Rig) -> Reasons:
    """The Agent's true files are stated; the question asks for the one that was replaced."""
    files = tree_files(agent_folder())

    def asks(nonce: bytes) -> bool:
        return any(name == _MAIN for name, _, _ in choose_ranges(nonce, files))

    return _stating(rig, {}, but=("agent", "ranges"), nonce=draw(asks))


def edited_log(rig: Rig) -> Reasons:
    """The event log tells of the approved image's parts wherever the rogue's were measured."""
    log = _log(rig)
    for theirs, ours in zip(_measured(rig.booted), _measured(rig.image), strict=True):
        log = log.replace(theirs, ours)
    return _stating(rig, {"event_log": log})


def shorter_log(rig: Rig) -> Reasons:
    """The event log ends where the boot manager did: no word of what it started."""
    log = _log(rig)
    at = log.index(rig.booted.manifest.pcr4[0])
    return _stating(rig, {"event_log": log[: at - _BEFORE_DIGEST]})


def cut_log(rig: Rig) -> Reasons:
    """The event log ends within an event."""
    return _stating(rig, {"event_log": _log(rig)[:-1]})


def oversized_log(rig: Rig) -> Reasons:
    """An event log longer than any."""
    log = _log(rig)
    return _stating(rig, {"event_log": log * (MAX_EVENT_LOG // len(log) + 1)})


def lying_length(rig: Rig) -> Reasons:
    """An event says that it is four gigabytes long."""
    log = _log(rig)
    at = log.index(rig.booted.manifest.pcr4[0]) + _DIGEST
    return _stating(rig, {"event_log": log[:at] + b"\xff" * 4 + log[at + 4 :]})


def _log(rig: Rig) -> bytes:
    rig.pi.call("lie", {})
    return claims.log(Evidence.decode(rig.ask().data), "event_log")


def _measured(image: BuiltBoot) -> tuple[bytes, ...]:
    manifest = image.manifest
    return (*manifest.pcr4, *manifest.pcr9, *manifest.pcr11)


def _stating(
    rig: Rig,
    claimed: Mapping[str, object],
    but: tuple[str, ...] = (),
    nonce: bytes | None = None,
) -> Reasons:
    """Ask, while the Agent lies about everything `but` that, and states what is `claimed`."""
    rig.pi.call("lie", {})
    boot = Evidence.decode(rig.ask().data).claim("boot")
    assert isinstance(boot, dict)
    nonce, honest = nonce or secrets.token_bytes(32), rig.image
    lies: dict[str, object] = {
        "agent": {"digest": measure_tree(agent_folder())},
        "ranges": answer_ranges(nonce, agent_folder()),
        "boot": boot | {"command_line": honest.manifest.command_line},
        "root": [list(row) for row in _files(honest).root(nonce)],
    }
    told = {name: value for name, value in lies.items() if name not in but}
    rig.pi.call("lie", told | dict(claimed))
    return said(rig.judge(rig.ask(nonce)))


@functools.cache
def _files(image: BuiltBoot) -> BootFiles:
    return open_boot_files(image.path, image.image_id)


async def _believe(_image: bytes, _kind: ImageKind) -> bool:
    return True

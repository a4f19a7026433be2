"""What decides a boot image: everything that enters its key, and nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import agent as agent_package
from agent.formats.measure import measure_tree
from agent.formats.netboot import ROOT_OPTION
from nodeclient.images import bootstrap
from nodeclient.images.boot.tree import Node
from nodeclient.images.boot.wheels import REQUIREMENTS, entries

BOOT_LOCK = Path(__file__).with_name("boot.lock")
EPOCH = 1_735_689_600  # 2025-01-01T00:00:00Z; any constant will do
_HERE = Path(__file__).parent

# quiet: nothing of a task can appear on a screen. panic=-1: a broken kernel starts over, at once.
# lockdown=integrity: root cannot change the running kernel (modules must be signed by the kernel's
# maker, no /dev/mem, no kexec of anything else), but may read it, which the Agent's answers need;
# "confidentiality" would forbid that. KASLR stays: the kernel map leaves out what it moves.
# intel_iommu=on, iommu.strict=1: a device reaches the memory that its driver gave it, and no longer
# than it was given (AMD's is on by itself); pci=noats: no device translates addresses by its own
# word. A PC without an IOMMU boots all the same.
# random.trust_bootloader=off: as the CPU's, numbers that firmware hands over count as no entropy.
# ipv6.disable=1: nobody here speaks it, and a kernel that does sends frames of its own accord.
# cryptomgr.notests=1: the self-tests of each cipher as it registers take six seconds without
# acceleration; what they look for is a faulty driver, not an attacker's.
OPTIONS = (
    *("quiet", "loglevel=1", "panic=-1", "oops=panic", "init_on_alloc=1", "init_on_free=1"),
    *("lsm=lockdown,yama,integrity", "lockdown=integrity", "apparmor=0", "module.sig_enforce=1"),
    *("slab_nomerge", "vsyscall=none", "random.trust_cpu=off", "random.trust_bootloader=off"),
    *("intel_iommu=on", "iommu.strict=1", "pci=noats", "ipv6.disable=1", "cryptomgr.notests=1"),
)


@dataclass(frozen=True, slots=True)
class BootRecipe:
    """One boot image to be. The defaults are the product; the rest is for those who test it.

    agent: folder of the Agent's package. lock, requirements: pinned Debian and Python packages.
    options: more kernel parameters. root, initramfs: files laid over those built, by path.
    """

    agent: Path = Path(agent_package.__file__).parent
    lock: Path = BOOT_LOCK
    requirements: Path = REQUIREMENTS
    options: tuple[str, ...] = ()
    root: Mapping[str, Node] = field(default_factory=dict)
    initramfs: Mapping[str, Node] = field(default_factory=dict)

    def command_line(self, root_sha256: bytes) -> str:
        """The kernel command line that pins this root."""
        return " ".join((*OPTIONS, *self.options, f"{ROOT_OPTION}={root_sha256.hex()}"))

    def key(self) -> str:
        """Under which an image of this recipe is kept: hash of all that decides it."""
        digest = hashlib.sha256(self.parts_key().encode())
        digest.update(measure_tree(self.agent))
        overlays = [sorted(each.items()) for each in (self.root, self.initramfs)]
        digest.update(repr((self.options, overlays)).encode())
        return digest.hexdigest()[:24]

    def parts_key(self) -> str:
        """The same of what is equal in all images of these locks."""
        digest = hashlib.sha256(Path(bootstrap.__file__).read_bytes())
        for file in sorted(each for each in _HERE.iterdir() if each.suffix in (".py", ".sh")):
            digest.update(file.name.encode() + file.read_bytes())
        digest.update(self.lock.read_bytes() + repr(entries(self.requirements)).encode())
        return digest.hexdigest()[:24]

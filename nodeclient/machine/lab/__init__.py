"""The lab's PC: a virtual machine with a software TPM, in place of the one behind a real cable."""

from nodeclient.machine.lab.qemu import Qemu, QemuSettings
from nodeclient.machine.lab.tpm import SoftwareTpm

__all__ = ["Qemu", "QemuSettings", "SoftwareTpm"]

"""What a Machine that booted from an image shows of its boot: claims that others can recompute.

The quote binds them to this question and this session. Without a TPM the kernel and root ranges
are still answered, but nobody vouches for them, and the Evidence says so.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.formats.bootimage import MAX_KERNEL_MAP, KernelMap
from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from agent.formats.messages import Question
from agent.formats.netboot import KERNEL_MAP, ROOT_FILE
from agent.formats.quote import MAX_EVENT_LOG, MAX_IMA, qualifying_data
from agent.formats.ranges import Area, answer
from agent.kernel import KernelMemory
from agent.tpm import Tpm
from agent.tpm_wire import DEVICE, Device

SECURITY = Path("/sys/kernel/security")
_EVENT_LOG, _IMA = "tpm0/binary_bios_measurements", "ima/binary_runtime_measurements"
_BLOCK = 1 << 16
# What nobody looks at, here or anywhere. What a verifier has no reference for it names itself.
_NEVER = (
    *("RAM outside the Agent", "bus interposers", "CPU microcode", "drive and card firmware"),
    *("devices that read memory (DMA)", "session keys left in RAM"),
)
NOT_CHECKED = {
    PI_ONLY: ("firmware", "boot event log", "IMA list", "kernel text", *_NEVER),
    TPM_QUOTED: ("kernel data and patched text", *_NEVER),
}


class Unmeasured(Exception):
    """The kernel's records of the boot cannot be had."""


class Measured:
    """The boot image that runs, and the TPM that it was measured into, if there is one."""

    def __init__(
        self, tpm: Tpm | None, kernel: KernelMemory, root: Path, security: Path = SECURITY
    ) -> None:
        self.tpm = tpm
        self._kernel, self._root, self._security = kernel, root, security

    @property
    def vouch(self) -> str:
        """Who stands for the claims."""
        return PI_ONLY if self.tpm is None else TPM_QUOTED

    def claims(self, question: Question, key_hash: bytes) -> dict[str, object]:
        """Claims for this question; `key_hash` (32 bytes) names the session.

        Raises TpmError, KernelUnreadable or Unmeasured.
        """
        claims: dict[str, object] = {
            "kernel": self._kernel.answer(question.nonce),
            "root": self._answer_root(question.nonce),
        }
        if self.tpm is not None:
            quote = self.tpm.quote(qualifying_data(question.nonce, key_hash, question.context))
            # The lists after the quote: what came meanwhile is more than it covers, never less.
            claims |= {
                "quote": quote.to_body(),
                "event_log": read_bounded(self._security / _EVENT_LOG, MAX_EVENT_LOG),
                "ima": read_bounded(self._security / _IMA, MAX_IMA),
            }
        return claims

    def _answer_root(self, nonce: bytes) -> list[list[object]]:
        try:
            with self._root.open("rb") as root:
                handle = root.fileno()
                size = os.fstat(handle).st_size

                def read(offset: int, length: int) -> bytes:
                    return os.pread(handle, length, offset)

                return answer(nonce, Area.ROOT, size, read)
        except OSError as error:
            raise Unmeasured(f"the root cannot be read ({error.strerror}); boot again") from error


def runs_boot_image() -> bool:
    """Whether this system is a boot image's, and not somebody's host."""
    return Path(KERNEL_MAP).exists()


def find_measured() -> Measured | None:
    """The boot image under this Agent, or None where it runs on somebody's host.

    Raises TpmError, KernelUnreadable, Unmeasured or FormatError.
    """
    if not runs_boot_image():
        return None
    kernel_map = KernelMap.decode(read_bounded(Path(KERNEL_MAP), MAX_KERNEL_MAP))
    tpm = Tpm(Device()) if DEVICE.exists() else None
    return Measured(tpm, KernelMemory(kernel_map), Path(ROOT_FILE))


def read_bounded(path: Path, limit: int) -> bytes:
    """A file of the kernel, whose size it does not tell; empty if there is none.

    Raises Unmeasured if it is longer than `limit` bytes or cannot be read.
    """
    data = b""
    try:
        with path.open("rb", buffering=0) as source:
            while part := source.read(_BLOCK):
                data += part
                if len(data) > limit:
                    raise Unmeasured(f"{path.name} exceeds {limit} bytes; boot again")
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Unmeasured(f"{path.name} cannot be read ({error.strerror}); boot again") from error
    return data

"""What the Pi gives the Agent at power-on, once, through standard input.

A pipe leaves no trace: nothing of it stands in the process table, the environment or a file. A
Machine that boots from the network fetches these bytes once and pipes them on (`agent.init`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.netboot import ENGINE, SCRATCH
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_path, as_text

MAX_BOOT = 64 * 1024
_KEYS = (
    *("image", "boot_nonce", "boot_secret", "host", "port", "pi_certificate", "boot_count"),
    *("scratch", "docker", "machine", "lease_seconds", "work_bytes", "simulated"),
)


@dataclass(frozen=True, slots=True)
class BootParameters:
    """One boot. `boot_secret` proves to the Pi that the caller is the Agent it booted.

    image: ID of the boot image (32 bytes), or of the Agent itself where nothing else booted; what
    the Pi says of it counts for nothing beside a quote. pi_certificate: SHA-256 of the Pi's
    certificate (DER). machine: label of this Machine's containers. lease_seconds: without the Pi
    for so long, clean and end. work_bytes: upper bound of the RAM disk that holds function and
    inputs in clear. simulated: parts that are not real.
    """

    image: bytes
    boot_nonce: bytes
    boot_secret: bytes
    host: str
    port: int
    pi_certificate: bytes
    boot_count: int
    scratch: Path
    docker: Path
    machine: str
    lease_seconds: int
    work_bytes: int
    simulated: tuple[str, ...]

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        body = {name: getattr(self, name) for name in _KEYS}
        return cbor.encode(
            {
                **body,
                "scratch": str(self.scratch),
                "docker": str(self.docker),
                "simulated": list(self.simulated),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> BootParameters:
        """Parse what arrived on standard input. Raises FormatError."""
        body = as_map(cbor.decode(data, MAX_BOOT), _KEYS, "boot parameters")
        return cls(
            image=as_bytes(body["image"], 32, "boot image"),
            boot_nonce=as_bytes(body["boot_nonce"], 32, "boot nonce"),
            boot_secret=as_bytes(body["boot_secret"], 32, "boot secret"),
            host=as_text(body["host"], 1, 253, "host"),
            port=as_int(body["port"], 1, 65535, "port"),
            pi_certificate=as_bytes(body["pi_certificate"], 32, "certificate digest"),
            boot_count=as_int(body["boot_count"], 0, 1 << 62, "boot count"),
            scratch=as_path(body["scratch"], "scratch folder"),
            docker=as_path(body["docker"], "docker socket"),
            machine=as_text(body["machine"], 1, 64, "machine label"),
            lease_seconds=as_int(body["lease_seconds"], 1, 86400, "lease seconds"),
            work_bytes=as_int(body["work_bytes"], 1 << 20, 1 << 44, "work bytes"),
            simulated=tuple(
                as_text(each, 1, 64, "simulated part")
                for each in as_list(body["simulated"], 0, 32, "simulated parts")
            ),
        )

    def check_places(self) -> None:
        """Refuse paths that are not the boot image's own. Raises FormatError.

        The Agent mounts over `scratch` and erases it, as root: a Pi that could choose it would lay
        an empty folder over a device in /sys, say, and the inventory would not show it.
        """
        if (self.scratch, self.docker) != (Path(SCRATCH), Path(ENGINE)):
            raise FormatError("boot parameters: paths that are not the boot image's")

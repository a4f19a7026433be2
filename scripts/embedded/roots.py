"""The devices that hold the nodes' root keys on this host: one per node, every one simulated."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from agent.formats.hashes import sha256
from nodeclient.core.admission import MAKER_ZYMBIT
from nodeclient.core.types import RootClass
from scripts.embedded.swtpm import ServedTpm
from scripts.standin.control import StandIn, build_library


class RootDevices(Protocol):
    """What a network plugs into its nodes. They last from ``start`` to ``stop``."""

    root_class: RootClass

    @property
    def maker(self) -> bytes:
        """Whom the bootstrap admitter names as their maker, 32 bytes; none for software."""

    def start(self, say: Callable[[str], None]) -> None:
        """What all devices have in common; says what is simulated."""

    def table(self, name: str) -> Mapping[str, str]:
        """Plug one into a new node: the table ``[root]`` of its configuration."""

    def stop(self) -> None:
        """Unplug all. Harmless before ``start`` and twice."""


class SoftwareRoots:
    """None: each key is a file."""

    root_class = RootClass.SOFTWARE
    maker = b""

    def __init__(self, _: Path) -> None:
        """No folder is needed."""

    def start(self, _: Callable[[str], None]) -> None:
        """Nothing to do."""

    def table(self, _: str) -> Mapping[str, str]:
        """The default's."""
        return {"kind": "software"}

    def stop(self) -> None:
        """Nothing to do."""


class ZymkeyRoots:
    """A stand-in for a Zymkey per node."""

    root_class = RootClass.ZYMKEY
    maker = MAKER_ZYMBIT

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()  # nodes are made side by side
        self.devices: dict[str, StandIn] = {}
        self._library = Path()

    def start(self, say: Callable[[str], None]) -> None:
        """Compile the library that all use."""
        self._folder.mkdir(parents=True, mode=0o700)
        self._library = build_library(self._folder)
        say(
            "[bold red]SIMULATED[/bold red]: no Zymkey is here. Each node gets a stand-in, whose"
            " keys lie in the memory of a process of this host"
        )

    def table(self, name: str) -> Mapping[str, str]:
        """A device of its own, known to nobody else."""
        device = StandIn(self._folder / name, self._library)
        with self._turn:
            self.devices[name] = device
        device.start()
        return {"kind": "zymkey", "library": str(device.library.absolute())}

    def stop(self) -> None:
        """Keys are gone with their devices."""
        with self._turn:
            for device in self.devices.values():
                with contextlib.suppress(OSError):
                    device.stop()
            self.devices.clear()


class Tpm2Roots:
    """A TPM in software (swtpm) per node, all of one maker."""

    root_class = RootClass.TPM2

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()  # nodes are made side by side
        self.devices: dict[str, ServedTpm] = {}

    @property
    def maker(self) -> bytes:
        """SHA-256 of the root certificate's DER; there is one once a device is."""
        root, _ = next(iter(self.devices.values())).certificates
        return sha256(ssl.PEM_cert_to_DER_cert(root.read_text()))

    def start(self, say: Callable[[str], None]) -> None:
        """The maker makes its certificates with its first TPM."""
        self._folder.mkdir(parents=True, mode=0o700)
        say(
            "[bold red]SIMULATED[/bold red]: no TPM chip is here. Each node gets a swtpm, whose"
            " keys lie in a folder of this host, with certificates of a maker made up here"
        )

    def table(self, name: str) -> Mapping[str, str]:
        """A TPM of its own, with its power on."""
        device = ServedTpm(self._folder / name, self._folder / "maker")
        with self._turn:  # one maker, who numbers his certificates
            device.make()
            self.devices[name] = device
        device.start()
        return {"kind": "tpm2", "tcti": device.tcti}

    def stop(self) -> None:
        """Cut their power."""
        with self._turn:
            for device in self.devices.values():
                device.stop()
            self.devices.clear()


KINDS: Mapping[str, Callable[[Path], RootDevices]] = {
    "software": SoftwareRoots,
    "tpm2": Tpm2Roots,
    "zymkey": ZymkeyRoots,
}

"""A TPM in software for the conformance suite, and how it is hurt.

Made once for a session of tests and copied: manufacturing takes a second, a copy has the same seeds
and so the same endorsement key, which is why strangers are made anew.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tpm2_pytss import ESAPI
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG
from tpm2_pytss.types import TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from nodeclient.config.root import Tpm2RootConfig
from nodeclient.core.types import RootClass
from nodeclient.ports import Root
from nodeclient.roots.tpm2.root import Tpm2Root
from scripts.embedded.swtpm import ServedTpm
from tests.roots.kits import Fault

PATIENCE = 2.0  # seconds; far beyond what swtpm takes for anything but an RSA endorsement key
PCRS = frozenset({7, 16})
RESETTABLE = 16  # the debug register


@cache
def manufactured(number: int) -> Path:
    """The folder of a TPM that was made and never started. Each number is another chip."""
    folder = Path(tempfile.mkdtemp(prefix=f"tpm-{number}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ServedTpm(folder).make()
    return folder


class WrongTpm(ESAPI):
    """A TPM that computes wrongly: one bit of each signature, as long as its bench says so."""

    bench: Tpm2Bench

    def sign(self, *args: Any, **named: Any) -> Any:
        made = super().sign(*args, **named)
        if not self.bench.wrong:
            return made
        r = bytearray(bytes(made.signature.ecdsa.signatureR))
        r[-1] ^= 1
        made.signature.ecdsa.signatureR = bytes(r)
        return made


class Tpm2Bench:
    """One chip with its power on."""

    def __init__(self, folder: Path, stack: ExitStack, pcrs: frozenset[int] = PCRS) -> None:
        self._folder, self._stack, self._pcrs = folder, stack, pcrs
        self._strangers, self.wrong, self._frozen = 0, False, False
        self.chip = self.power_up("chip", 0)

    @property
    def files(self) -> Path:
        return self._folder / "root"

    @property
    def config(self) -> Tpm2RootConfig:
        return self.config_of(self.chip)

    def config_of(self, chip: ServedTpm) -> Tpm2RootConfig:
        return Tpm2RootConfig(
            kind="tpm2", tcti=chip.tcti, pcrs=self._pcrs, patience_seconds=PATIENCE
        )

    def create(self) -> Root:
        return Tpm2Root.create(self.files, self.config, self.connect)

    def load(self) -> Root:
        return Tpm2Root.load(self.files, self.config, self.connect)

    def stranger(self) -> Root:
        self._strangers += 1
        chip = self.power_up(f"stranger-{self._strangers}", self._strangers)
        folder = self._folder / f"files-{self._strangers}"
        return Tpm2Root.create(folder, self.config_of(chip))

    def inject(self, fault: Fault) -> None:
        match fault:
            case Fault.ABSENT:
                self.chip.stop()
            case Fault.BUSY:
                self.chip.freeze()
                self._frozen = True
            case Fault.WRONG_SIGNATURE:
                self.wrong = True
            case Fault.WRONG_STATE:
                self.measure(b"another kernel")
            case _:
                raise AssertionError(f"a TPM has no fault {fault}")

    def heal(self) -> None:
        if self._frozen:
            self.chip.thaw()
            self._frozen = False
        if not self.chip.running:
            self.chip.start()
        self.wrong = False

    def connect(self) -> ESAPI:
        esys = WrongTpm(self.chip.tcti)
        esys.bench = self
        return esys

    def measure(self, what: bytes) -> None:
        """Extend a register, as the start of other software does."""
        values = TPML_DIGEST_VALUES(
            [TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=what.ljust(32)[:32]))]
        )
        with ESAPI(self.chip.tcti) as esys:
            esys.pcr_extend(ESYS_TR(RESETTABLE), values)

    def power_up(self, name: str, number: int) -> ServedTpm:
        folder = self._folder / name
        shutil.copytree(manufactured(number), folder)
        chip = ServedTpm(folder)
        self._stack.callback(chip.stop)
        chip.start()
        return chip


class Tpm2Kit:
    name = "tpm2"
    root_class = RootClass.TPM2
    simulated = True  # swtpm says so itself
    faults = frozenset({Fault.ABSENT, Fault.BUSY, Fault.WRONG_SIGNATURE, Fault.WRONG_STATE})

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Tpm2Bench]:
        with ExitStack() as stack:
            yield Tpm2Bench(folder, stack)

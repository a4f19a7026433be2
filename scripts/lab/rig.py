"""A lab machine without a network of nodes: one Pi with its PC, one verifier, one chain.

Three namespaces, real parts: the Pi boots the PC as its daemon does, the verifier judges as a
Committee member does. Attacks and benchmarks share it; what they need besides is the same boot.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.formats.evidence import Evidence, session_key_hash
from agent.formats.messages import Context, Question
from nodeclient.chain.images import ImageKind
from nodeclient.core.appraisal import AttestationResult
from nodeclient.core.evidence_policy import Expected, Remembered, remember
from nodeclient.core.types import Address, NodeRecord, Phase, Statement, Verdict
from nodeclient.images.boot.keep import BuiltBoot, build_boot
from nodeclient.machine.netboot import NetbootMachine
from nodeclient.machine.netboot.machine import IsApproved
from scripts.embedded.chain import ROOT
from scripts.embedded.network import Say
from scripts.lab.approvals import Approvals
from scripts.lab.errand import Errand, RuntimeImage, small_runtime
from scripts.lab.namespaces import HUB_ADDRESS, SOCKET, Namespaces, entered, plug_in, remove
from scripts.lab.pc import Pc, memory_file
from scripts.lab.pi import Pi
from scripts.lab.state import LabError, LabState, load, me
from scripts.lab.station import Station
from scripts.lab.verifier import Verifier, said

PI, VERIFIER, INTRUDER = "pi", "verifier", "intruder"
IMAGES: Final = ROOT / ".build" / "images" / "boot"
RUN_SECONDS: Final = 180.0  # from the last key to a running container, without acceleration


class ControlFailed(RuntimeError):
    """The machine was refused before anybody attacked it: no attack would show anything."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Evidence as it came over the wire, and the nonce that was asked."""

    nonce: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Wiped:
    """What a boot left behind: its transcript, and the proof that its memory was erased."""

    transcript: bytes
    proof: bytes


class Rig:
    """Made by `rig`. For callers outside of every event loop."""

    def __init__(self, folder: Path, label: str, say: Say) -> None:
        self.folder, self.label, self.say = folder, label, say
        self.spaces = Namespaces(label, (PI, VERIFIER, INTRUDER))
        self.pc = Pc(folder / "pc", label)
        self.pi = Pi(folder, Station(self.spaces.site(PI).namespace), self.pc)
        self.town = Station(self.spaces.site(VERIFIER).namespace)
        self.approvals = Approvals(folder, HUB_ADDRESS)
        self._undo = contextlib.ExitStack()
        self.before: Remembered | None = None
        self.last: Remembered | None = None
        self.wiped: Wiped | None = None
        self.phase = Phase.BEFORE
        self.image: BuiltBoot  # the approved one
        self.booted: BuiltBoot
        self.runtime: RuntimeImage
        self.errand: Errand
        self.record: NodeRecord
        self.verifier: Verifier

    def set_up(self) -> None:
        """Everything but a boot."""
        self.image = build_boot(IMAGES, self.say)
        self.runtime = small_runtime(self.folder)
        own = self._images / self.image.image_id.hex()
        shutil.copytree(self.image.path, own, copy_function=os.link)
        self._undo.callback(self.pc.remove)
        self.pc.prepare()
        self._undo.callback(self.spaces.remove)
        self.spaces.make()
        plug_in(self.spaces.site(PI).namespace, SOCKET)
        with entered(self.spaces.hub):
            self._undo.callback(self.approvals.stop)
            self.approvals.start()
        for station in (self.pi.station, self.town):
            self._undo.callback(station.stop)
            station.start()
        self.town.run(self._open_verifier(self._images))
        self._undo.callback(lambda: self.town.run(self.verifier.close()))
        self._undo.callback(self.pi.power_off)
        self.say(f"rig with boot image {self.image.image_id.hex()[:16]}…")

    @property
    def _images(self) -> Path:
        """The boot images of which the verifier has copies."""
        return self.folder / "verifier-images"

    async def _open_verifier(self, images: Path) -> None:
        await self.approvals.deploy()
        await self.approvals.approve(self.image.image_id, ImageKind.BOOT)
        await self.approvals.approve(self.runtime.image_id, ImageKind.RUNTIME)
        deployment = self.approvals.deployment
        market = Address(deployment["TaskMarket"].address)
        self.errand = Errand.of(self.runtime.image_id, deployment.chain_id, market)
        url, folder = self.approvals.url, self.folder / "verifier"
        self.verifier = Verifier(folder, url, deployment, images, self.pi.answer)
        self.verifier.makers.mkdir()
        maker, _ = self.pc.tpm.certificates
        shutil.copyfile(maker, self.verifier.makers / maker.name)
        await self.verifier.warm()

    def hand_out(self, image: BuiltBoot, kind: ImageKind) -> None:
        """Approve one more image, of which the verifier gets its own copy."""
        own = self.folder / "verifier-images" / image.image_id.hex()
        shutil.copytree(image.path, own, copy_function=os.link)
        self.town.run(self.approvals.approve(image.image_id, kind))

    def tear_down(self) -> None:
        """Nothing is left, whatever happened."""
        self._undo.close()

    def boot(
        self,
        image: BuiltBoot | None = None,
        kind: type[NetbootMachine] = NetbootMachine,
        is_approved: IsApproved | None = None,
    ) -> None:
        """Boot, and prepare the task. Raises MachineError; the PC is off then.

        An attacker's Pi is of another `kind`, and asks somebody else than the chain.
        """
        image = self.booted = image or self.image
        self.before = self.last = None
        self.phase, self.pi.blocks = Phase.BEFORE, self.errand.blocks
        self.pi.boot(image, self.runtime, is_approved or self.approvals.is_approved, kind)
        self.pi.call("prepare", self.errand.order())

    def enrol(self) -> None:
        """The machine that runs is from now on the Node's registered one."""
        self.record = self.pi.enrol()

    def ask(
        self,
        nonce: bytes | None = None,
        context: Context | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """Evidence for a nonce (a fresh one), through the Pi. Raises MachineError, and TimeoutError
        after `seconds`."""
        nonce = nonce or secrets.token_bytes(32)
        body = Question(nonce, context or self.errand.at(self.phase)).to_body()
        data = self.pi.call("ask", body, seconds)
        assert isinstance(data, bytes)
        return Answer(nonce, data)

    def expected(self, answer: Answer) -> Expected:
        """What the verifier knows: of a session that it admitted, or of a header that names one."""
        asked = self.errand.expected(answer.nonce, self.phase)
        known = replace(asked, before=self.before, last=self.last)
        return known if self.before is not None else replace(known, statement=header_of(answer))

    def judge(
        self,
        answer: Answer,
        expected: Expected | None = None,
        record: NodeRecord | None = None,
    ) -> AttestationResult:
        """The verifier's result."""
        wanted, node = expected or self.expected(answer), record or self.record
        return self.town.run(self.verifier.judge(answer.data, wanted, node))

    def run_task(self) -> None:
        """The owner's key is released to the Machine that was affirmed; the function runs.

        Raises MachineError, ControlFailed.
        """
        self.control()
        evidence = Evidence.decode(self.ask().data)
        session, _ = evidence.session()
        self.pi.call("release", self.errand.release(session, evidence.root))
        self.phase = Phase.DURING
        end = time.monotonic() + RUN_SECONDS
        while not self._runs():
            if time.monotonic() > end:
                raise ControlFailed("the rig's task does not run; look at the Machine's console")
            time.sleep(1.0)

    def _runs(self) -> bool:
        stated = Evidence.decode(self.ask().data).claim("containers")
        assert isinstance(stated, dict)
        return any(each["running"] for each in stated["own"])

    def admit(self, image: BuiltBoot) -> None:
        """Approve one more boot image, of which the verifier keeps a copy."""
        copy = self._images / image.image_id.hex()
        if not copy.exists():
            shutil.copytree(image.path, copy, copy_function=os.link)
            self.town.run(self.approvals.approve(image.image_id, ImageKind.BOOT))

    def control(self) -> AttestationResult:
        """The machine as it is, asked anew. Raises ControlFailed unless it is affirmed."""
        answer = self.ask()
        result = self.judge(answer)
        if result.verdict is not Verdict.AFFIRMING:
            raise ControlFailed(f"the control run was refused: {'; '.join(said(result))}")
        self.last = remember(Evidence.decode(answer.data))
        self.before = self.before or self.last
        return result


@contextlib.contextmanager
def rig(folder: Path, say: Say) -> Iterator[Rig]:
    """A rig in `folder`, which is emptied; it holds nothing that runs afterwards.

    Raises LabError while another process has one there; one that crashed is cleaned up.
    """
    _clear_crashed(folder)
    shutil.rmtree(folder, ignore_errors=True)
    made = Rig(folder, secrets.token_hex(3), say)
    state = LabState(made.label, made.spaces.names, me())
    state.claim(folder)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()
        shutil.rmtree(folder, ignore_errors=True)


def _clear_crashed(folder: Path) -> None:
    state = load(folder)
    if state is None:
        return
    if state.is_kept:
        raise LabError("a machine is under attack in this folder already; wait for its end")
    remove(state.namespaces)
    memory_file(state.label).unlink(missing_ok=True)


def header_of(answer: Answer) -> Statement:
    """The header of one phase. Its signature by the root is looked at before an appraisal begins
    (`nodeclient.duties.appraising`), and no part of it."""
    evidence = Evidence.decode(answer.data)
    session = session_key_hash(*evidence.session())
    return Statement(0, evidence.nonce, evidence.root, session, 0, 0)

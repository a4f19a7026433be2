"""The rig's Pi: boots its PC and calls its Agent, as a Node's daemon does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats.endorsement import Challenge, Endorsement
from agent.formats.hashes import sha256
from agent.formats.rpc import RpcError
from agent.tpm import Tpm
from nodeclient.attestation.makers import load_certificates
from nodeclient.core.claims import Region
from nodeclient.core.erasure import plan_ranges
from nodeclient.core.incidents import Incident, Report
from nodeclient.core.types import Address, NodeRecord
from nodeclient.duties.vouching import Voucher
from nodeclient.images.boot.keep import BuiltBoot
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.desk import MachineDesk
from nodeclient.machine.netboot import Cable, NetbootMachine, NetbootSettings
from nodeclient.machine.netboot.erase import Patience
from nodeclient.machine.netboot.erasing import Erasing
from nodeclient.machine.netboot.machine import IsApproved
from nodeclient.machine.netboot.server import default_command
from nodeclient.machine.supply import Supply
from nodeclient.p2p.messages import ActivationRequest
from nodeclient.ports import BlockGetter, BlockPutter, Session
from nodeclient.roots.software import SoftwareRoot
from scripts.lab.errand import RuntimeImage, record_of
from scripts.lab.namespaces import CABLE
from scripts.lab.network import MAC
from scripts.lab.pc import Pc
from scripts.lab.station import Station

BOOT_SECONDS: Final = 420.0  # a busy computer without acceleration; nobody waits for that on a desk
FindRuntime = Callable[[bytes], Awaitable[Path | None]]


class Pi:
    """Lives in `station`; its methods are for callers outside of every event loop.

    presented: the file that it shows of its TPM. accomplice: a TPM elsewhere that answers in place
    of the Machine's, if there is one. report: who hears of incidents, in the station's
    thread; get_block, put_block: where the task's capsules are. To be set before a boot.
    """

    def __init__(self, folder: Path, station: Station, pc: Pc) -> None:
        self.station, self.pc = station, pc
        self.presented = folder / "endorsement.cbor"
        self.accomplice: Tpm | None = None
        self.blocks: Mapping[str, bytes] = {}  # of the task's Capsules
        self.get_block: BlockGetter = self._get_block
        self.put_block: BlockPutter = _no_room
        self.incidents: list[Incident] = []  # all that it noticed of its PC
        self.report: Report = self.incidents.append
        self._folder = folder
        self._root = SoftwareRoot(ec.generate_private_key(ec.SECP256R1()))
        self._boots = 0
        self._machine: NetbootMachine | None = None
        self._desk: MachineDesk | None = None
        self._session: Session

    def boot(
        self,
        image: BuiltBoot,
        runtime: RuntimeImage,
        is_approved: IsApproved,
        kind: type[NetbootMachine] = NetbootMachine,
    ) -> None:
        """Boot the PC. Raises MachineError; it is off then."""
        self.power_off()
        self._boots += 1
        self.station.run(self._boot(image, runtime, is_approved, kind))

    async def _boot(
        self,
        image: BuiltBoot,
        runtime: RuntimeImage,
        is_approved: IsApproved,
        kind: type[NetbootMachine],
    ) -> None:
        settings = NetbootSettings(
            folder=self._folder / "machine",
            cable=Cable(CABLE, MAC),
            image=image.image_id,
            images=image.path.parent,
            boot_seconds=BOOT_SECONDS,
            work_bytes=128 << 20,
        )

        async def find(wanted: bytes) -> Path | None:
            return runtime.path if wanted == runtime.image_id else None

        slot = KeySlot(self._folder / "channel.sealed", self._root)
        supply = Supply(self.get_block, self.put_block, find)
        machine = self._machine = kind(
            settings, supply, slot, self.pc, is_approved, report=self.report
        )
        self._desk = MachineDesk(machine, self._root)
        self._session = await self._desk.boot(self._boots)

    def erase(
        self, eraser: BuiltBoot, memory: tuple[Region, ...], is_approved: IsApproved
    ) -> bytes:
        """Boot this eraser, warm, and have it prove itself, once: an encoded proof.

        Raises MachineError; the PC goes off in either case.
        """
        return self.station.run(self._erase(eraser, memory, is_approved))

    async def _erase(
        self, eraser: BuiltBoot, memory: tuple[Region, ...], is_approved: IsApproved
    ) -> bytes:
        erasing = Erasing(
            cable=Cable(CABLE, MAC),
            image=eraser.image_id,
            images=eraser.path.parent,
            boot_seconds=BOOT_SECONDS,
            boot_server=default_command(),
            power=self.pc,
            is_approved=is_approved,
            patience=Patience(hello=120.0, part=120.0, per_gib=900.0, step=300.0),
        )
        if self._machine is not None:
            await self._machine.let_go()
        try:
            return (await erasing.run(plan_ranges(memory), cold=False)).encode()
        finally:
            await self.pc.off()

    def power_off(self) -> None:
        """Cut the PC's power."""
        if self._machine is not None:
            self.station.run(self._machine.power_off())
        self._machine = self._desk = None

    def call(self, method: str, body: object, seconds: float | None = None) -> object:
        """Call the Agent. Raises MachineError, and TimeoutError after `seconds`."""

        async def within() -> object:
            async with asyncio.timeout(seconds):
                return await self._running.call(self._session.resume, method, body)

        return self.station.run(within())

    @property
    def session(self) -> Session:
        """Of the latest boot."""
        return self._session

    def strangers(self) -> int:
        """How many frames of other machines the cable has dropped."""
        assert self._machine is not None, "boot it first"
        return self.station.run(self._machine.dropped())["stranger"]

    def enrol(self) -> NodeRecord:
        """Learn the attestation key of the PC that runs, as `sealrun node enrol` does; what the
        registry then holds of this Node."""
        given = Endorsement.from_body(self.call("endorsement", None))
        _, issuer = self.pc.tpm.certificates
        chain = (*given.certificates, *load_certificates(issuer))
        self.presented.write_bytes(replace(given, certificates=chain).encode())
        return self.registered(given.ak)

    def registered(self, key: bytes) -> NodeRecord:
        """What the registry holds of this Node with an attestation key (TPMT_PUBLIC)."""
        return record_of(sha256(key), self._root.public_key())

    async def answer(self, _node: Address, method: str, request: object) -> bytes:
        """A verifier's request about the TPM, in place of the peer-to-peer network; for callers in
        other stations."""
        voucher = Voucher(self.presented, self._running)
        if method == "endorsement":
            return await self.station.reach(voucher.endorsement())
        assert isinstance(request, ActivationRequest)
        if self.accomplice is not None:
            return self.accomplice.activate(Challenge(request.blob, request.secret))
        return await self.station.reach(voucher.activate(self._session.resume, request))

    async def _get_block(self, cid: str) -> bytes:
        if cid not in self.blocks:
            raise RpcError("missing", "the rig's task has no such block")
        return self.blocks[cid]

    @property
    def _running(self) -> MachineDesk:
        assert self._desk is not None, "boot it first"
        return self._desk


async def _no_room(_cid: str, _block: bytes) -> None:
    raise RpcError("missing", "the rig's task has no result")

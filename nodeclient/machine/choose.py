"""Which Machine a Node's configuration names: the daemon and `sealrun node enrol` ask here."""

from __future__ import annotations

from nodeclient.config.node import Config, HookPowerConfig, NetbootMachineConfig
from nodeclient.core.checks.origin import SIMULATED_ROOT
from nodeclient.core.incidents import Report
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.incidents import log_only
from nodeclient.machine.lab import Qemu, QemuSettings
from nodeclient.machine.local import SIMULATED, LocalMachine, LocalSettings
from nodeclient.machine.netboot import Cable, HookPower, NetbootMachine, NetbootSettings, Power
from nodeclient.machine.netboot.machine import IsApproved
from nodeclient.machine.netboot.server import default_command
from nodeclient.machine.proxy import ProxyRules
from nodeclient.machine.supply import Supply
from nodeclient.ports import Machine, Root

CHANNEL_KEYS = "machine-channel.sealed"


def choose_machine(
    config: Config,
    supply: Supply,
    root: Root,
    is_approved: IsApproved,
    *,
    report: Report = log_only,
) -> Machine:
    """The adapter of `[machine] kind`; nothing is started yet.

    `root` seals the keys of the channel to the Machine; a simulated one is named in the Evidence,
    whatever class it is registered as. `is_approved` asks the chain whether an
    image (ID, 32 bytes) may be used now as a kind. `report` is told what is noticed of the Machine.
    """
    machine = config.machine
    folder = config.folder / "machine"
    proxy = ProxyRules(machine.proxy_networks, machine.proxy_mib << 20)
    slot = KeySlot(config.folder / CHANNEL_KEYS, root)
    simulated = (SIMULATED_ROOT,) if root.simulated else ()
    if not isinstance(machine, NetbootMachineConfig):
        local = LocalSettings(
            folder=folder,
            rotate_seconds=machine.rotate_seconds,
            proxy=proxy,
            simulated=(*SIMULATED, *simulated),
        )
        return LocalMachine(local, supply, slot, report=report)
    cable = Cable(machine.interface, machine.mac)
    settings = NetbootSettings(
        folder=folder,
        cable=cable,
        image=bytes.fromhex(machine.boot_image),
        images=config.path(machine.boot_images),
        boot_seconds=machine.boot_seconds,
        rotate_seconds=machine.rotate_seconds,
        proxy=proxy,
        work_bytes=machine.work_mib << 20,
        boot_server=machine.boot_server or default_command(),
        eraser=bytes.fromhex(machine.eraser),
        uncovered=machine.accept_uncovered_mib << 20,
        simulated=simulated,
    )
    power = choose_power(config, machine, cable)
    return NetbootMachine(settings, supply, slot, power, is_approved, report=report)


def choose_power(config: Config, machine: NetbootMachineConfig, cable: Cable) -> Power:
    """The power switch of `[machine.power] kind`."""
    power = machine.power
    if isinstance(power, HookPowerConfig):
        return HookPower(
            cable, power.off, power.on, power.reset, power.settle_seconds, power.hook_seconds
        )
    return Qemu(
        QemuSettings(
            folder=config.path(power.folder),
            tap=power.tap,
            mac=cable.mac,
            memory_mib=power.memory_mib,
            cpus=power.cpus,
        )
    )

"""The Machine behind this Node's Pi: one adapter per profile."""

from nodeclient.errors import MachineError, MachineRefused
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.local import LocalMachine, LocalSettings
from nodeclient.machine.measure import agent_folder, measure_agent

__all__ = [
    "KeySlot",
    "LocalMachine",
    "LocalSettings",
    "MachineError",
    "MachineRefused",
    "agent_folder",
    "measure_agent",
]

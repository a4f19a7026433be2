"""A real PC on this Pi's cable: booted from the network, filtered, switched on and off."""

from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.machine import NetbootMachine, NetbootSettings
from nodeclient.machine.netboot.power import HookPower, Power

__all__ = ["Cable", "HookPower", "NetbootMachine", "NetbootSettings", "Power"]

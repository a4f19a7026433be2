"""Where a Machine that boots from the network finds its Pi, and what it fetches there.

One Ethernet cable joins the two and nobody else, so its addresses are part of the format: they
stand in the boot image, which nobody configures.
"""

from __future__ import annotations

PREFIX = 24
PI_ADDRESS = "10.77.0.1"
MACHINE_ADDRESS = "10.77.0.2"
HTTP_PORT = 80
LINK_PORT = 7700  # where the Pi waits for the Agent; the address is the cable's own
ERASE_PORT = 7701  # where the Pi waits for the eraser

EFI_PATH = "/boot.efi"
ROOT_PATH = "/root.squashfs"
PARAMETERS_PATH = "/parameters"  # answered once per boot: it holds the boot's secrets

ROOT_OPTION = "sealrun.root"  # kernel command line: SHA-256 of root.squashfs, hexadecimal
ROOT_FILE = "/run/sealrun/root.squashfs"  # in the Machine: what it runs from, in RAM
SCRATCH = "/run/sealrun/scratch"  # in the Machine: where a task's clear text is mounted
ENGINE = "/run/docker.sock"  # in the Machine: dockerd
KERNEL_MAP = "/usr/lib/sealrun/kernel.map"  # in the Machine: see `bootimage`

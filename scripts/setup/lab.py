"""What the lab needs besides: a PC with TPM to emulate, a cable, and what is served over it."""

import os
import shutil
from pathlib import Path

from common import VENV, apt_install, run, say
from machine import SYSTEM_PATH

# What shows that a Debian package is there: a program, or a file where it has none.
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
    "swtpm": "swtpm",
    "swtpm_setup": "swtpm-tools",
    "dnsmasq": "dnsmasq-base",  # the program alone: Debian's other package starts a service
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "busybox": "busybox-static",  # its DHCP client is a second opinion in the tests
    "gcc": "gcc",  # the eraser's program for tests on this host; its image brings a compiler
    "/usr/include/stdio.h": "libc6-dev",  # with it the Zymkey's stand-in is compiled
}


def make_lab() -> None:
    """Install what is missing. Without root there is no lab, and the rest does without."""
    missing = sorted(package for sign, package in PACKAGES.items() if not _is_there(sign))
    if os.geteuid() != 0:
        say("leaving out the lab, which takes root; for it run as root: make lab")
        return
    if missing:
        apt_install(missing, "what the lab needs")
    say("building the boot image, unless it is there")
    failure = "cannot build the boot image; check the network, then run: sealrun image build boot"
    run([VENV / "bin" / "sealrun", "image", "build", "boot", "--json"], failure, seconds=1800)
    say("building the eraser's image, unless it is there (the first time some minutes)")
    failure = "cannot build the eraser; check the network, then run: sealrun image build eraser"
    run([VENV / "bin" / "sealrun", "image", "build", "eraser", "--json"], failure, seconds=3600)


def _is_there(sign: str) -> bool:
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    return (
        Path(sign).is_file() if sign.startswith("/") else shutil.which(sign, path=path) is not None
    )

"""What a lab needs of the host that it runs on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from scripts.lab.state import LabError

PROGRAMS: Final = (
    "ip",
    "nsenter",
    "nft",
    "dnsmasq",
    "qemu-system-x86_64",
    "swtpm",
    "swtpm_setup",
    "mmdebstrap",
    "gcc",
)
FIRMWARE: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
SYSTEM_PATH: Final = "/usr/sbin:/sbin:/usr/local/sbin"


def check_host() -> None:
    """Raises `LabError` where no lab can be."""
    if reason := why_not():
        raise LabError(reason)


def why_not() -> str:
    """What is missing, in one line that ends with the next step; empty: nothing."""
    if os.geteuid() != 0:
        return "a lab makes network namespaces, which takes root; run as root: make lab"
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if not FIRMWARE.is_file():
        missing.append(str(FIRMWARE))
    return f"{', '.join(missing)} missing; run as root: make setup" if missing else ""

"""What a lab could leave behind on its host."""

from __future__ import annotations

from pathlib import Path

from nodeclient.machine.power import started_at
from scripts.embedded.site import NAMESPACES
from scripts.lab.namespaces import PREFIX, processes

# What names the lab's parts, and the secrets of the PC's TPM.
LEFT = ("state.json*", "pc/tpm/state")


def residents(label: str) -> set[int]:
    """The ids of all processes in the namespaces of a lab."""
    spaces = NAMESPACES.glob(f"{PREFIX}{label}-*")
    return {pid for space in spaces for pid in processes(space.name)}


def leftovers(folder: Path) -> list[str]:
    """Processes that know the lab's folder, mounts below it, its state, its TPM."""
    found = [f"process {pid}: {words}" for pid, words in commands() if str(folder) in words]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {point}" for line in mounts if str(folder) in (point := line.split()[4])]
    return found + [str(path) for name in LEFT for path in folder.glob(name)]


def program(pid: int) -> str:
    """What a process is called; empty if it ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pids: set[int]) -> list[int]:
    """Those of the processes that run. A dead one whose collector is yet to come does not."""
    return sorted(pid for pid in pids if started_at(pid) is not None)


def namespaces() -> set[str]:
    """The namespaces of all labs on this host."""
    return {path.name for path in NAMESPACES.glob(f"{PREFIX}*")}


def commands() -> list[tuple[int, str]]:
    """(id, command line) of every process here."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            found.append((int(entry.name), words))
    return found

"""Measure sealing and opening: `make bench`, or `python scripts/bench.py --megabytes 1024`.

Each step runs in a process of its own, so that its peak memory is its own. Speeds are of CPU time
on one core, since the machine is shared, and stand beside plain sha256 of the same file in the same
run: that ratio travels between machines, MB/s (10^6 bytes) do not. Writes `var/bench.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts._figures import REPORT, report_figures  # noqa: E402

PART = 1 << 20
BOUND = {"rss_megabytes": 100, "speed": 200}  # issue 2: figures


def make_input(path: Path, megabytes: int) -> None:
    """Incompressible bytes, different in every chunk."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(PART))


def run_hash(folder: Path) -> dict[str, object]:
    """The yardstick: read the payload once and hash it."""
    digest = hashlib.sha256()
    with (folder / "payload").open("rb", buffering=0) as file:
        while part := file.read(PART):
            digest.update(part)
    return {"digest": digest.hexdigest()}


def run_seal(folder: Path) -> dict[str, object]:
    """Read, encrypt, hash and write the payload into a block store, durable at the end."""
    from agent.formats.capsule import Kind
    from nodeclient.capsules.keys import FolderVault
    from nodeclient.capsules.seal import seal_path
    from nodeclient.capsules.stores.blockstore import FolderStore
    from nodeclient.roots.software import SoftwareRoot

    root = SoftwareRoot.create(folder / "root", folder / "root" / "passphrase")
    store, vault = FolderStore(folder / "blocks"), FolderVault(folder / "keys")
    sealed = seal_path(folder / "payload", Kind.DATA, root=root, store=store, vault=vault)
    (folder / "cid").write_text(sealed.cid)
    return {"digest": sealed.digest.hex()}


def run_open(folder: Path) -> dict[str, object]:
    """Read, check, decrypt and write the payload, durable at the end."""
    from nodeclient.capsules.keys import FolderVault, load_key
    from nodeclient.capsules.open import open_file
    from nodeclient.capsules.stores.blockstore import FolderStore
    from nodeclient.roots.software import SoftwareRoot

    root = SoftwareRoot.load(folder / "root", folder / "root" / "passphrase")
    cid = (folder / "cid").read_text()
    key = load_key(root, FolderVault(folder / "keys"), cid)
    store, target = FolderStore(folder / "blocks"), folder / "opened"
    open_file(cid, target, get=store.get, content_key=key, expect_owner=root.public_key())
    return {}


STEPS: dict[str, Callable[[Path], dict[str, object]]] = {
    "sha256": run_hash,
    "seal": run_seal,
    "open": run_open,
}


def rss_peak() -> int:
    """Peak resident bytes of this program. Not ru_maxrss: that one counts the parent's in exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run_step(name: str, folder: Path) -> None:
    """In the child: run one step and print its figures. Loading the modules is not timed."""
    for module in ("capsules.seal", "capsules.open", "roots.software") if name != "sha256" else ():
        importlib.import_module(f"nodeclient.{module}")
    size = (folder / "payload").stat().st_size
    wall, cpu = time.perf_counter(), time.process_time()
    result = STEPS[name](folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result |= {
        "megabytes_per_second": round(size / cpu / 1e6),
        "megabytes_per_second_wall": round(size / wall / 1e6),
        "rss_peak_megabytes": round(rss_peak() / 1e6, 1),
    }
    print(json.dumps(result))


def measure(folder: Path, megabytes: int) -> dict[str, object]:
    """Run all steps and compare the opened file with the payload."""
    make_input(folder / "payload", megabytes)
    figures: dict[str, dict[str, object]] = {}
    for name in STEPS:
        command = [sys.executable, __file__, "--step", name, "--folder", str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures[name] = json.loads(done.stdout)
    if figures["seal"].pop("digest") != figures["sha256"].pop("digest"):
        raise SystemExit("bench: the sealed digest is not that of the payload; run the tests")
    if subprocess.run(["cmp", folder / "payload", folder / "opened"], check=False).returncode:
        raise SystemExit("bench: the opened file differs from the payload; run the tests")
    yardstick = float(str(figures["sha256"]["megabytes_per_second"]))
    for name in ("seal", "open"):
        speed = float(str(figures[name]["megabytes_per_second"]))
        figures[name]["ratio_to_sha256"] = round(speed / yardstick, 3)
    return {"payload_megabytes": round(megabytes * 1.048576), **figures}


def main() -> None:
    """Measure, print and merge into the report; exit code 1 beyond a bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="payload size in MiB")
    parser.add_argument("--output", type=Path, default=REPORT)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.folder)
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="sealrun-bench-") as folder:
        capsule = measure(Path(folder), options.megabytes)
    report_figures(options.output, "capsule", capsule)
    for name in ("seal", "open"):
        figures = capsule[name]
        assert isinstance(figures, dict)
        if figures["rss_peak_megabytes"] >= BOUND["rss_megabytes"]:
            raise SystemExit(f"bench: {name} needs too much memory; bound {BOUND['rss_megabytes']}")
        if figures["megabytes_per_second"] < BOUND["speed"]:
            raise SystemExit(f"bench: {name} is too slow; bound {BOUND['speed']} MB/s")


if __name__ == "__main__":
    main()

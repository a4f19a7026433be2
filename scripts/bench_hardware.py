"""How long until the Pi hears of a device that is plugged into its running PC?

Usage: python scripts/bench_hardware.py [--times N]

The lab's PC boots once; then a USB stick and a PCIe card are plugged in and pulled in turns, and
the time from QEMU's `device_add` to the incident on the Pi is taken. Merged into `var/bench.json`.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nodeclient.core.incidents import Incident, Kind  # noqa: E402
from nodeclient.machine.lab.plugging import Gadget, plug_in, pull_out  # noqa: E402
from scripts._figures import REPORT, report_figures  # noqa: E402
from scripts.lab.host import check_host  # noqa: E402
from scripts.lab.rig import Rig, rig  # noqa: E402

BOUND_SECONDS = 2.0  # issue 5: figures
GADGETS = (Gadget.USB_STICK, Gadget.NETWORK_CARD)
_PATIENCE = 30.0


def measure(times: int) -> dict[str, object]:
    """Plug each gadget in so often. Raises SystemExit if the Pi never hears of one."""
    heard: queue.Queue[tuple[float, Incident]] = queue.Queue()
    with rig(ROOT / "var" / "hardware", say) as made:
        made.pi.report = lambda incident: heard.put((time.monotonic(), incident))
        made.boot()
        found = {
            gadget: [delay(made, gadget, heard, f"bench{turn}") for turn in range(times)]
            for gadget in GADGETS
        }
    figures: dict[str, object] = {"times": times}
    for gadget, delays in found.items():
        name = gadget.name.lower()
        figures[f"{name}_median_seconds"] = round(statistics.median(delays), 3)
        figures[f"{name}_slowest_seconds"] = round(max(delays), 3)
    return figures


def delay(
    made: Rig, gadget: Gadget, heard: queue.Queue[tuple[float, Incident]], name: str
) -> float:
    """Seconds from plugging it in to the first incident that names it; it is out again then."""
    bus = gadget.ids.partition(":")[0]
    begun = time.monotonic()
    plug_in(made.pc.monitor, gadget, name)
    at = wait_for(heard, f"add {bus} ", gadget)
    pull_out(made.pc.monitor, gadget, name)
    wait_for(heard, f"remove {bus} ", gadget)  # the last word about it: the next turn starts clean
    say(f"{gadget.name}: {at - begun:.3f} s")
    return at - begun


def wait_for(heard: queue.Queue[tuple[float, Incident]], words: str, gadget: Gadget) -> float:
    """When the incident came that says this of the gadget. Raises SystemExit if none does."""
    while True:
        try:
            at, incident = heard.get(timeout=_PATIENCE)
        except queue.Empty:
            raise SystemExit(f"bench: the Pi never heard of {gadget.name}; run the tests") from None
        if (
            incident.kind is Kind.HARDWARE
            and words in incident.text
            and gadget.ids in incident.text
        ):
            return at


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr)


def main() -> None:
    """Measure, print and merge into the report; exit code 1 beyond a bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    check_host()
    figures = measure(options.times)
    report_figures(options.output, "hardware", figures)
    medians = [figures[f"{gadget.name.lower()}_median_seconds"] for gadget in GADGETS]
    if max(float(str(each)) for each in medians) > BOUND_SECONDS:
        raise SystemExit(f"bench: the Pi hears of a device only after more than {BOUND_SECONDS} s")


if __name__ == "__main__":
    main()

"""What this Pi can say of its cable in one boot: the rules' counters, and the frames it listed."""

from __future__ import annotations

from pathlib import Path

from agent.formats.cable import COUNTERS, MAX_CABLE, CableReport
from agent.formats.cbor import FormatError
from nodeclient.core.incidents import Report
from nodeclient.errors import MachineError
from nodeclient.files import replace_file
from nodeclient.machine.netboot import firewall
from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.strays import Strays

_NAME = "cable-began"


class CableWatch:
    """`begin` with each boot or `go_on` with one that runs, `stop` at the end.

    folder: private to the Machine; what the counters were when the boot began lies there, because
    rules and Machine outlive the daemon.
    """

    def __init__(self, cable: Cable, folder: Path, report: Report) -> None:
        self._cable, self._file = cable, folder / _NAME
        self._strays = Strays(folder, firewall.log_group(cable), report)
        self._began = CableReport(dict.fromkeys(COUNTERS, 0), dict.fromkeys(COUNTERS, 0))

    async def begin(self) -> None:
        """A boot begins, the rules stand. Raises MachineError."""
        now = await firewall.counters(self._cable)
        self._began = CableReport(now, now)
        self._strays.forget()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._file, self._began.encode())
        except OSError as error:
            raise MachineError(
                f"{self._file}: {error.strerror}", "make room on the disk"
            ) from error
        self._strays.start()

    async def go_on(self) -> None:
        """Another daemon takes over a boot that runs. Raises MachineError.

        Also where the counters are below what they were: then this Pi itself started anew, and for
        a while there were no rules.
        """
        now = await firewall.counters(self._cable)
        try:
            with self._file.open("rb") as file:
                self._began = CableReport.decode(file.read(MAX_CABLE + 1))
        except (OSError, FormatError) as error:
            raise MachineError("nobody knows how the cable's counters began", "boot it") from error
        if any(now[name] < self._began.now[name] for name in COUNTERS):
            raise MachineError("the Pi started anew: the cable had no rules meanwhile", "boot it")
        self._strays.start()

    async def report(self) -> bytes:
        """What goes with a question (`agent.formats.cable`). Raises MachineError."""
        now = await firewall.counters(self._cable)
        return CableReport(self._began.now, now, self._strays.running).encode()

    def stop(self) -> None:
        """Read no more; the rules go on counting. Harmless twice."""
        self._strays.stop()

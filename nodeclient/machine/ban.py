"""A banned Machine is not booted: a finding in the Node's folder, which only its operator lifts."""

from __future__ import annotations

from pathlib import Path

from nodeclient.errors import MachineError
from nodeclient.finding import Finding

BANNED = "banned.json"
PARDON = "look at the machine, then lift it: sealrun node pardon"


class Ban(Finding):
    """``folder``: the Machine's, inside the Node's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / BANNED)

    def check(self) -> None:
        """Raises MachineError while the Machine is banned."""
        standing = self.standing()
        if standing is not None:
            raise MachineError(f"the machine is banned ({standing.reason})", PARDON)

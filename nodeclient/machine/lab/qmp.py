"""One command to QEMU's monitor (QMP, docs/interop/qmp-spec of QEMU 7.2)."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from nodeclient.errors import MachineError

_SECONDS = 20.0
_MAX_LINE = 1 << 20


def command(monitor: Path, name: str, **arguments: object) -> object:
    """The `return` of one command. Raises MachineError."""
    try:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(_SECONDS)
            plain.connect(str(monitor))
            with plain.makefile("rwb") as stream:
                stream.readline(_MAX_LINE)  # the greeting
                for order in ({"execute": "qmp_capabilities"}, _order(name, arguments)):
                    stream.write(json.dumps(order).encode() + b"\n")
                    stream.flush()
                    answer = _answer(stream.readline)
                return answer
    except (OSError, ValueError) as error:
        raise MachineError(f"QEMU's monitor does not answer ({error})", "see: qemu.log") from error


def _order(name: str, arguments: dict[str, object]) -> dict[str, object]:
    return {"execute": name, **({"arguments": arguments} if arguments else {})}


def _answer(readline: object) -> object:
    assert callable(readline)
    while True:
        line = json.loads(readline(_MAX_LINE))
        if "return" in line:
            return line["return"]
        if "error" in line:
            raise MachineError(f"QEMU refused: {line['error'].get('desc')}", "see: qemu.log")

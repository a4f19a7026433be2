"""The stand-in's own process: requests over a socket beside the library, faults over stdin.

Run as ``python -I serve.py FOLDER SERIAL``. It ends when its stdin does, so nobody has to look for
it afterwards. A line on stdin is a JSON object, each answered by one on stdout:
``{"faults": {...}}``, ``{"breach": channel}``, ``{"clear": true}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from keys import Device, Faults

SOCKET = "zymkey.sock"
MOST_BYTES = 65536  # of one request or answer, as in link.h
# In the order of `enum operation` in link.h, from 1 on.
OPERATIONS = (
    *("open", "random", "lock", "unlock", "sign", "verify", "public_key", "public_pem"),
    *("perimeter", "clear_perimeter", "perimeter_action", "wait_perimeter"),
    *("model", "firmware", "serial", "binding", "lock_binding", "time", "led", "slots"),
)
_HEAD = struct.Struct("!IiI")


class Server:
    """One thread per connection; a connection that breaks the form is closed."""

    def __init__(self, device: Device, listener: socket.socket) -> None:
        self._device = device
        self._listener = listener
        self._open: set[socket.socket] = set()
        self._turn = threading.Lock()

    def run(self) -> None:
        """Accept for ever."""
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def unplug(self) -> None:
        """Nobody is answered any more."""
        self._device.faults.absent = True
        with self._turn:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        with self._turn:
            self._open.add(connection)
        try:
            with connection, contextlib.suppress(OSError, EOFError):
                while not self._device.faults.absent:
                    self._answer(connection)
        finally:
            with self._turn:
                self._open.discard(connection)

    def _answer(self, connection: socket.socket) -> None:
        number, argument, size = _HEAD.unpack(_receive(connection, _HEAD.size))
        if not 1 <= number <= len(OPERATIONS) or size > MOST_BYTES:
            raise EOFError
        name, data = OPERATIONS[number - 1], _receive(connection, size)
        faults = self._device.faults
        if faults.slow:
            time.sleep(faults.slow)
        if faults.unplug_at == name:
            self.unplug()
        if faults.absent:
            raise EOFError
        status, answer = self._device.answer(name, argument, data)
        connection.sendall(struct.pack("!iI", status, len(answer)) + answer)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def main() -> None:
    """Serve until stdin ends."""
    folder, serial = sys.argv[1:]
    device = Device(serial)
    with socket.socket(socket.AF_UNIX) as listener:
        # By way of /proc: a socket's address has 108 bytes, a folder's path may have more.
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{handle}/{SOCKET}")
        os.close(handle)
        listener.listen()
        server = Server(device, listener)
        threading.Thread(target=server.run, daemon=True).start()
        print(json.dumps({"ready": serial}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            if "faults" in order:
                device.faults = Faults(**order["faults"])
                if device.faults.absent:
                    server.unplug()
            if "breach" in order:
                device.breach(order["breach"])
            if order.get("clear"):
                device.clear()
            print(json.dumps({"led": device.led}), flush=True)


if __name__ == "__main__":
    main()

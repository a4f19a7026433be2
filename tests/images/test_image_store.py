"""An engine with containerd's image store is refused: simulated, by an API that says it has one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from nodeclient.images.errors import EngineError
from nodeclient.images.load import load_image
from nodeclient.images.services import ServiceEngine
from tests.images.small import small_image

# What /info of such an engine says, and of one with the store that Docker always had.
CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]
OVERLAY2 = [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]]
WHY = "containerd's store.*containerd-snapshotter.*daemon.json"


class Api(ThreadingMixIn, UnixStreamServer):
    """The few calls that are made before an image is touched; it has no container."""

    daemon_threads = True

    def __init__(self, path: Path, status: object) -> None:
        self.status = status
        self.asked: list[str] = []
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        what = self.path.partition("?")[0].rpartition("/")[2]
        self.server.asked.append(what)
        answers: dict[str, object] = {
            "version": {"ApiVersion": "1.41"},
            "info": {"DriverStatus": self.server.status},
        }
        body = json.dumps(answers.get(what, [])).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.asked.append("load")
        self.send_error(500)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def api(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Api]:
    server = Api(tmp_path / "engine.sock", request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("api", [CONTAINERD], indirect=True)
def test_store__containerds__neither_watched_nor_loaded_into(api: Api, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=WHY):
        ServiceEngine("sealrun", tmp_path / "engine.sock").running()
    _, tar = small_image(tmp_path, b"a note")
    with pytest.raises(EngineError, match=WHY):
        load_image(tar, tmp_path / "engine.sock")
    assert set(api.asked) == {"version", "info"}, "asked what it is, and nothing else"


@pytest.mark.parametrize("api", [OVERLAY2, None], indirect=True)
def test_store__the_one_with_our_ids__used(api: Api, tmp_path: Path) -> None:
    assert ServiceEngine("sealrun", tmp_path / "engine.sock").running() == ()
    assert api.asked[-2:] == ["info", "json"]

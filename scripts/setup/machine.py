"""What stands in for the Machine in the embedded profile: Docker here, and the runtime image."""

import os
import shutil

from common import VENV, SetupError, apt_install, run, say

# mmdebstrap builds the runtime image; iptables and certificates are not pulled in on small images.
PACKAGES = {
    "dockerd": ("docker.io", "iptables", "ca-certificates"),
    "mmdebstrap": ("mmdebstrap",),
    "docker-compose": ("docker-compose",),
}
SYSTEM_PATH = os.defpath + ":/usr/local/bin:/usr/sbin:/sbin:/usr/local/sbin"
ENGINE = (
    "from pathlib import Path; from nodeclient.images.engine import ensure_engine; "
    "ensure_engine(Path('.build/engine'), print)"
)
ANSWERS = "import docker; docker.from_env(timeout=5).ping()"


def make_engine() -> None:
    """Have a Docker engine that answers: the one there is, or Debian's, started."""
    if not _engine_answers():
        _need("dockerd", "the Docker engine")
        say("starting the Docker engine")
        failure = "Docker does not start here; start it (systemctl start docker), then try again"
        run([VENV / "bin" / "python", "-c", ENGINE], failure, seconds=120)
    _need("mmdebstrap", "the image builder")


def make_compose() -> None:
    """What reads scripts/pi/compose.yaml: tests start the daemon as a Pi does."""
    _need("docker-compose", "docker-compose")


def make_image() -> None:
    """Have the runtime image built and loaded. The builder itself knows what is still good."""
    say("building the runtime image, unless it is there")
    failure = "cannot build the runtime image; check the network, then run: sealrun image build"
    run([VENV / "bin" / "sealrun", "image", "build", "--json"], failure)


def _engine_answers() -> bool:
    try:
        run([VENV / "bin" / "python", "-c", ANSWERS], "no answer", seconds=20)
    except SetupError:
        return False
    return True


def _need(program: str, what: str) -> None:
    if shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}") is None:
        apt_install(PACKAGES[program], what)

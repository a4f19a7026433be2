"""One node as an operator has it: a folder, a process, the command line and the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from nodeclient.chain import registry
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.registration import load as load_registration
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.control.client import ControlClient
from nodeclient.core.case import Role
from nodeclient.errors import DaemonUnreachable
from nodeclient.identity.folder import create_folder, open_folder
from scripts.embedded.chain import ROOT
from scripts.embedded.site import HERE, Site

START_SECONDS = 180.0  # eight interpreters that start at once on two busy cores
POLL_SECONDS = 0.2  # blocks come after half a second
MODULE = ("-m", "nodeclient.cli", "node", "run")


@dataclass(frozen=True)
class Sealed:
    """A sealed capsule: where it is and what its payload hashes to."""

    cid: str
    digest: bytes


@dataclass(frozen=True)
class Progress:
    """The last block that a daemon has seen (-1: none yet), whether it looks just now at what a
    coming block asks of it (its ticket, a TaskSpec), and how many transactions it has not had mined
    yet."""

    block: int = -1
    looking: bool = False
    sending: int = 0


class NodeProcess:
    """A node. ``name`` is for people only and stands in no file of the node."""

    def __init__(self, name: str, folder: Path, site: Site = HERE) -> None:
        self.name = name
        self.folder = folder
        self.site = site
        self.account = ""
        self._process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------------------------- set-up

    def create(
        self,
        rpc: str,
        deployment: Path,
        roles: Sequence[Role],
        machine: Mapping[str, object],
        root: Mapping[str, str],
    ) -> None:
        """Make the folder as ``sealrun node init`` does, with an endpoint of its site."""
        made = create_folder(
            self.folder,
            rpc=rpc,
            deployment_file=deployment,
            endpoint=self.site.endpoint(),
            roles=frozenset(roles),
            root=root,
        )
        self.account = str(made["account"])
        lines = [f"{key} = {toml(value)}" for key, value in machine.items()]
        config = self.folder / "config.toml"
        chain = f"[chain]\npoll_seconds = {POLL_SECONDS}\n"
        text = config.read_text().replace("[chain]\n", chain, 1)
        config.write_text(text + "\n[machine]\n" + "\n".join(lines) + "\n")

    def join(self) -> None:
        """Take part in what another process created."""
        account = load_registration(self.folder / "registration.json").account
        self.account = to_checksum_address(account)

    def register(self, rpc_url: str, deployment: Deployment, deposit: int, join: bool) -> None:
        """Send the registration from the node's own account."""
        asyncio.run(self._register(rpc_url, deployment, deposit, join))

    async def _register(
        self, rpc_url: str, deployment: Deployment, deposit: int, join: bool
    ) -> None:
        rpc = Rpc(rpc_url)
        try:
            keys = open_folder(self.folder).load_keys()
            journal = SqliteJournal(":memory:")
            sender = Sender(rpc, deployment, journal, keys.account, SendSettings(poll_seconds=0.05))
            registration = load_registration(self.folder / "registration.json")
            order = registry.register("register", registration, deposit, join=join)
            await sender.execute(order)
        finally:
            await rpc.close()

    # ------------------------------------------------------------------------------ process

    def start(self, module: Sequence[str] = MODULE, *extra: str) -> None:
        """Start the daemon; ``wait`` tells when it answers."""
        with (self.folder / "stderr.log").open("ab") as errors:
            self._process = subprocess.Popen(
                self.site.command([sys.executable, *module, str(self.folder), *extra]),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=ROOT,
                start_new_session=True,
                env=dict(os.environ),
            )

    def wait(self, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Its status, as soon as it answers."""
        end = time.monotonic() + seconds
        while True:
            try:
                status: dict[str, Any] = self.get("/v1/status")
                return status
            except DaemonUnreachable:
                if time.monotonic() > end or not self.running:
                    raise RuntimeError(f"{self.name} did not start; see {self.folder}") from None
                time.sleep(0.1)

    @property
    def running(self) -> bool:
        """Whether the daemon's process lives."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the daemon's process ended with; None while it runs or before it did."""
        return None if self._process is None else self._process.poll()

    @property
    def halted(self) -> bool:
        """Whether a signal stopped the daemon: the state letter of proc(5)."""
        process = self._process
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_text() if process else ""
        except OSError:  # it ended
            stat = ""
        return stat.rpartition(")")[2].split()[:1] == ["T"]

    @property
    def awake(self) -> bool:
        """Whether the daemon runs and no signal stopped it."""
        return self.running and not self.halted

    def progress(self) -> Progress:
        """How far the daemon is, by its own file."""
        try:
            file = f"file:{self.folder / 'node.db'}?mode=ro"
            with contextlib.closing(sqlite3.connect(file, uri=True)) as database:
                (block,) = database.execute("SELECT max(block) FROM cursor").fetchone()
                pending = "SELECT kind FROM outbox WHERE status = 'pending'"
                kinds = [kind for (kind,) in database.execute(pending)]
        except sqlite3.Error:  # a daemon that starts for the first time makes the file just now
            return Progress()
        sending = sum(kind.startswith("Submit") for kind in kinds)
        looking = bool({"EvaluateTicket", "VetTask"} & set(kinds))
        return Progress(-1 if block is None else block, looking, sending)

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, as a power cut of the Pi."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        """Any signal, SIGSTOP for a silent node."""
        if self.running:
            os.kill(self.pid, number)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self._process is None:
            return
        if self.running:
            os.kill(self.pid, signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    # ------------------------------------------------------------------------- what people do

    def get(self, path: str) -> Any:
        """Ask the control interface."""
        return ControlClient(self.folder).get(path)

    def submit(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Order a task; its answer once it stands on chain."""
        answer: dict[str, Any] = ControlClient(self.folder).post("/v1/tasks", request)
        return answer

    def cli(self, *words: str) -> Any:
        """Run the command line at the node's site, with --json; returns what it prints."""
        done = subprocess.run(
            self.site.command([sys.executable, "-m", "nodeclient.cli", *words, "--json"]),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"sealrun {' '.join(words[:2])}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def seal(self, path: Path, kind: str) -> Sealed:
        """Seal a file or function into this node's store."""
        made = self.cli("capsule", "seal", str(path), "--kind", kind, "--node", str(self.folder))
        return Sealed(made["cid"], bytes.fromhex(made["digest"][2:]))

    def permit(self, cid: str, policy: Mapping[str, object]) -> None:
        """Set a capsule's policy."""
        file = self.folder / "policy.json"
        file.write_text(json.dumps(policy))
        self.cli("capsule", "permit", cid, str(file), "--node", str(self.folder))
        file.unlink()

    def log(self) -> str:
        """The daemon's log."""
        path = self.folder / "node.log"
        return path.read_text() if path.exists() else ""


def toml(value: object) -> str:
    """A value of a configuration file: what JSON has too, and tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)

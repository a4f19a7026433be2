"""The container's settings: as the engine shows them, and as a function inside feels them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import docker
import pytest
from docker.models.containers import Container

from agent.formats.messages import DURING
from agent.formats.outcome import Ending
from nodeclient.machine.power import LABEL
from tests.machine.support import LIMITS, Job, Pi

PROBE = r"""
import ctypes, json, os, socket, subprocess, sys, tempfile
found = {}
def attempt(name, act):
    try:
        found[name] = repr(act())
    except OSError as error:
        found[name] = f"errno {error.errno}"
lines = open("/proc/self/status").read().splitlines()
status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
for field in ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
    found[field] = status[field].split()[0]
libc = ctypes.CDLL(None, use_errno=True)
def syscall(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")
    return 0
def execute(folder):
    path = folder + "/tool"
    with open(path, "w") as tool: tool.write("#!/usr/bin/python3\n")
    os.chmod(path, 0o755)
    try: return subprocess.run([path]).returncode
    finally: os.remove(path)
attempt("write root", lambda: open("/evil", "w"))
attempt("write usr", lambda: open("/usr/evil", "w"))
attempt("write function", lambda: open("/capsule/function/evil", "w"))
attempt("write input", lambda: open("/capsule/in/one", "a"))
attempt("new input", lambda: open("/capsule/in/evil", "w"))
attempt("write tmp", lambda: open("/tmp/ok", "w").write("x"))
attempt("run from tmp", lambda: execute("/tmp"))
attempt("run from out", lambda: execute("/capsule/out/first"))
attempt("inet socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
attempt("inet6 socket", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
attempt("netlink socket", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("vsock socket", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
attempt("unix pair", lambda: socket.socketpair()[0].fileno() >= 0)
attempt("new user namespace", lambda: syscall("unshare", 0x10000000))
attempt("mount", lambda: syscall("mount", b"x", b"/tmp", b"tmpfs", 0, 0))
attempt("ptrace", lambda: syscall("ptrace", 0, 0, 0, 0))
attempt("keyring", lambda: syscall("syscall", 250, 0, 0, 0, 0, 0))
attempt("shadow", lambda: open("/etc/shadow").read())
attempt("docker socket", lambda: os.stat("/var/run/docker.sock"))
attempt("proxy socket", lambda: os.stat("/capsule/proxy.sock"))
found["interfaces"] = sorted(os.listdir("/sys/class/net"))
found["environment"] = sorted(os.environ)
found["capsule"] = sorted(os.listdir("/capsule"))
found["limits"] = open("/proc/self/limits").read().count("1024                 1024")
json.dump(found, open("/capsule/out/first/found.json", "w"))
"""


async def probe(pi: Pi) -> dict[str, object]:
    job = pi.job(PROBE, {"one": b"ada"})
    outcome = await pi.run(job)
    assert (outcome.status, outcome.exit_code) == (Ending.RAN, 0)
    found: dict[str, object] = json.loads(
        pi.open_result(job, "first", outcome.results["first"])["found.json"]
    )
    return found


async def test_function__inside_the_container__has_no_rights(pi: Pi) -> None:
    found = await probe(pi)
    read_only, denied, no_file, refused = "errno 30", "errno 13", "errno 2", "errno 1"
    assert found == {
        "Uid": "65534",
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "write root": read_only,
        "write usr": read_only,
        "write function": read_only,
        "write input": denied,
        "new input": read_only,
        "write tmp": "1",
        "run from tmp": denied,
        "run from out": denied,
        "inet socket": refused,
        "inet6 socket": refused,
        "netlink socket": refused,
        "vsock socket": refused,
        "unix pair": "True",
        "new user namespace": refused,
        "mount": refused,
        "ptrace": refused,
        "keyring": refused,
        "shadow": no_file,
        "docker socket": no_file,
        "proxy socket": no_file,
        "interfaces": ["lo"],
        "environment": found["environment"],
        "capsule": ["function", "in", "out"],
        "limits": 1,
    }
    assert "SEALRUN_PROXY" not in str(found["environment"])


async def start_sleeper(pi: Pi, job: Job) -> None:
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)


async def until_running(pi: Pi, engine: docker.DockerClient) -> list[Container]:
    """The Machine's running containers, waited for."""
    label = {"label": f"{LABEL}={pi.label}"}
    async with asyncio.timeout(180):
        while not (found := engine.containers.list(filters=label)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_container__while_it_runs__inspect_and_evidence_agree(
    pi: Pi, engine: docker.DockerClient
) -> None:
    limits = replace(LIMITS, memory_bytes=64 << 20, pids=20, cpu_milli=500)
    job = pi.job("import time; time.sleep(60)", limits=limits)
    await start_sleeper(pi, job)
    found = await until_running(pi, engine)
    applied = found[0].attrs["HostConfig"]
    assert found[0].attrs["Image"] == "sha256:" + pi.image_id.hex()
    assert found[0].attrs["Config"]["User"] == "65534:65534"
    assert applied["NetworkMode"] == "none"
    assert applied["ReadonlyRootfs"] is True
    assert applied["CapDrop"] == ["ALL"]
    assert not applied["CapAdd"]
    assert "no-new-privileges:true" in applied["SecurityOpt"]
    profile = next(each for each in applied["SecurityOpt"] if each.startswith("seccomp="))
    assert json.loads(profile.removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    assert (applied["Memory"], applied["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (applied["PidsLimit"], applied["NanoCpus"]) == (20, 500_000_000)
    assert applied["LogConfig"]["Type"] == "none"
    assert applied["Tmpfs"] == {"/tmp": "size=16m,mode=1777,noexec,nosuid,nodev"}
    assert not applied["Devices"]
    evidence = await pi.ask(job, DURING)
    containers = evidence.claim("containers")
    assert isinstance(containers, dict)
    [own] = containers["own"]
    assert (own["id"], own["image"], own["running"]) == (found[0].id, pi.image_id, True)
    assert own["flags"]["network"] == "none"
    assert own["flags"]["memory_bytes"] == 64 << 20
    assert own["flags"]["mounts"] == [
        ["/capsule/function", True],
        ["/capsule/in", True],
        ["/capsule/out", False],
    ]


@pytest.mark.parametrize("method", ["stop", "power"])
async def test_run__given_up_in_the_middle__container_is_gone(
    pi: Pi, engine: docker.DockerClient, method: str
) -> None:
    job = pi.job("import time; time.sleep(60)")
    await start_sleeper(pi, job)
    await until_running(pi, engine)
    label = {"label": f"{LABEL}={pi.label}"}
    await (pi.machine.call("stop", {}) if method == "stop" else pi.machine.power_off())
    assert engine.containers.list(all=True, filters=label) == []

"""DHCP for one Machine: an address, and where its firmware finds what to boot. Nothing else."""

from __future__ import annotations

import asyncio

from agent.formats.netboot import EFI_PATH, MACHINE_ADDRESS, PI_ADDRESS, PREFIX
from nodeclient.errors import MachineError
from nodeclient.machine.netboot.cable import Cable

NOBODY = 65534
_CAPABILITIES = "+net_admin,+net_raw,+net_bind_service"
_START_SECONDS = 20.0


def dnsmasq_config(cable: Cable) -> str:
    """A configuration without DNS, TFTP, router or leases on disk.

    UEFI HTTP Boot (UEFI 2.10, 24.7): the client names itself `HTTPClient:Arch:00016` (x86-64) in
    option 60, and takes an offer only if that says `HTTPClient`, too.
    """
    return "\n".join(
        (
            "port=0",
            "no-hosts",
            "no-resolv",
            "no-ping",
            f"interface={cable.interface}",
            "except-interface=lo",
            "bind-interfaces",
            "dhcp-authoritative",
            "leasefile-ro",
            "quiet-dhcp",
            "quiet-dhcp6",
            "dhcp-lease-max=1",
            f"dhcp-range={MACHINE_ADDRESS},static,{_mask(PREFIX)},infinite",
            f"dhcp-host={cable.mac},{MACHINE_ADDRESS},infinite",
            "dhcp-ignore=tag:!known",
            "dhcp-option=option:router",
            "dhcp-option=option:dns-server",
            "dhcp-vendorclass=set:httpboot,HTTPClient:Arch:00016",
            "dhcp-option-force=tag:httpboot,60,HTTPClient",
            f"dhcp-boot=tag:httpboot,http://{PI_ADDRESS}{EFI_PATH}",
            "log-facility=-",
            "",
        )
    )


def dnsmasq_command() -> tuple[str, ...]:
    """dnsmasq as nobody, with what it needs to answer a host that has no address yet.

    Its configuration comes on standard input; it dies with the process that started it.
    """
    return (
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--no-new-privs", f"--bounding-set=-all,{_CAPABILITIES}"),
        *(f"--inh-caps=-all,{_CAPABILITIES}", f"--ambient-caps=-all,{_CAPABILITIES}"),
        *("--pdeathsig=KILL", "dnsmasq", "--keep-in-foreground", "--conf-file=-", "--pid-file"),
    )


class Dhcp:
    """One dnsmasq."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._last = "it said nothing"

    async def start(self) -> None:
        """Start, and wait until it serves. Raises MachineError."""
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *dnsmasq_command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise MachineError("setpriv cannot be started", "install util-linux") from error
        assert process.stdin is not None
        process.stdin.write(dnsmasq_config(self._cable).encode())
        process.stdin.close()
        self._reader = asyncio.create_task(self._read(process))
        serving = asyncio.create_task(self._ready.wait())
        done, _ = await asyncio.wait(
            {serving, self._reader}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        serving.cancel()
        if serving not in done:
            await self.stop()
            raise MachineError(f"dnsmasq does not serve ({self._last})", "install dnsmasq-base")

    async def ended(self) -> None:
        """Returns when dnsmasq ended by itself."""
        assert self._reader is not None
        await asyncio.wait({self._reader})

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()  # keeps nothing: there is nothing to end in order
            await self._process.wait()
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self._last = line.decode(errors="replace").strip()[:160]
            if "DHCP, static leases only" in self._last:
                self._ready.set()


def _mask(prefix: int) -> str:
    bits = (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF
    return ".".join(str(part) for part in bits.to_bytes(4, "big"))

"""The one task of this boot: prepared, unlocked, run, sealed, erased.

FRESH → PREPARED → RUNNING → DONE → CLEANED. The run begins by itself when the last content key
arrives. Nothing that a function, an owner or a Pi does can leave the task between two states: every
path out of RUNNING sets an outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import nullcontext

from agent.boot import BootParameters
from agent.channel import PiLost
from agent.devices import DeviceMissing, PassedDevice, find_devices, lent
from agent.engine import Engine
from agent.erase import Erased, erase_task
from agent.evidence import TaskFacts
from agent.formats.faults import place_of
from agent.formats.messages import REFUSED, Context, Prepare, Release
from agent.formats.outcome import Ending, Outcome, State
from agent.formats.rpc import RpcError
from agent.formats.taskspec import TaskSpec, open_commitment
from agent.hardening import container_settings
from agent.images import ImageRefused, bring_image
from agent.keys import KeyRing
from agent.proxy import Dial, Proxy
from agent.runner import Run, Runner
from agent.scratch import Scratch, ScratchError
from agent.seal import seal_results
from agent.session import Session
from agent.unlock import CannotUnlock, unlock_function, unlock_inputs

_log = logging.getLogger(__name__)
AGENT_FAILURE = "AGENT_FAILURE"
CONNECTION_REFUSED = "CONNECTION_REFUSED"

PiCall = Callable[[str, object], object]  # blocking: for use in worker threads


class Work:
    """State and steps of the task. The caller holds one lock around every step but `stop`."""

    def __init__(
        self,
        boot: BootParameters,
        session: Session,
        engine: Engine,
        scratch: Scratch,
        pi: PiCall,
        dial: Dial,
        *,
        own_machine: bool = False,
    ) -> None:
        self._boot, self._session, self._engine, self._pi = boot, session, engine, pi
        self._dial, self._own_machine = dial, own_machine
        self._scratch = scratch
        self._brought: bytes | None = None
        self._runner: Runner | None = None
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False
        self.state = State.FRESH
        self.facts = TaskFacts()
        self.spec: TaskSpec | None = None
        self.context: Context | None = None
        self.keys: KeyRing | None = None
        self.min_answers = 0

    async def prepare(self, order: Prepare) -> None:
        """Check the TaskSpec, make the disks, bring the image. Repeatable for one task.

        Raises FormatError or RpcError; the Agent is FRESH again then.
        """
        if self.context is not None:
            if not self.context.same_task(order.context):
                raise RpcError("conflict", "this boot has another task; boot the Machine again")
            return
        spec = open_commitment(order.spec, order.context.commitment)
        try:
            devices = find_devices(spec.devices)
            await asyncio.to_thread(self._set_up, spec)
        except DeviceMissing as error:
            raise RpcError("device_missing", str(error)) from error
        except ImageRefused as error:
            raise RpcError("image_refused", str(error)) from error
        except ScratchError as error:
            raise RpcError("no_scratch", str(error)) from error
        self.facts.devices = tuple((device.asked, device.node) for device in devices)
        self.facts.image_id, self.facts.image_present = spec.runtime_image, True
        self.facts.function_cid, self.facts.connections = spec.function.cid, spec.connections
        self.spec, self.context, self.min_answers = spec, order.context, order.min_answers
        self.keys = KeyRing(spec, order.context, self._session)
        self.state = State.PREPARED

    def _set_up(self, spec: TaskSpec) -> None:
        names = [receiver.name for receiver in spec.receivers]
        scratch, image = self._scratch, spec.runtime_image
        try:
            scratch.mount(self._boot.work_bytes, spec.limits.scratch_bytes, names)
            if bring_image(self._engine, image, self._image_block, scratch.image):
                self._brought = image
                # For the power cut of a simulated Machine, whose engine outlives it.
                scratch.brought.write_text(image.hex())
        except BaseException:
            scratch.erase()
            raise

    def take_key(self, release: Release) -> None:
        """Keep a released key; the run begins with the last one. Raises as KeyRing.take."""
        if self.keys is None or self.state is not State.PREPARED:
            if self.state in (State.RUNNING, State.DONE):
                return  # said again: the first delivery's answer was lost
            raise RpcError("not_prepared", "this boot has no task; prepare it first")
        self.keys.take(release)
        if not self.keys.missing:
            self._begin()

    def start(self) -> None:
        """Begin now. Without every key the task ends as INPUT_MISSING."""
        if self.keys is None:
            raise RpcError("not_prepared", "this boot has no task; prepare it first")
        if self.state is not State.PREPARED:
            return
        if self.keys.missing:
            self._end(Run(Ending.INPUT_MISSING, None, 0))
        else:
            self._begin()

    def _begin(self) -> None:
        self.state = State.RUNNING
        self._worker = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            run = await self._unlock_and_run()
            self._end(run)
        except Exception as error:  # a fault of ours must not leave the task RUNNING for ever
            _log.error("the run failed inside the Agent: %s", place_of(error))
            self._end(Run(Ending.NOT_STARTED, None, 0), (AGENT_FAILURE,))

    async def _unlock_and_run(self) -> Run | Outcome:
        spec, keys, context = self.spec, self.keys, self.context
        assert spec is not None
        assert keys is not None
        assert context is not None
        try:
            await asyncio.to_thread(unlock_function, self._scratch, spec, keys, self._get_block)
            self.facts.function_digest = spec.function.digest  # checked while it was opened
            await asyncio.to_thread(unlock_inputs, self._scratch, spec, keys, self._get_block)
            devices = find_devices(spec.devices)
        except CannotUnlock as error:
            _log.warning("the run cannot begin: %s", error.ending.value)
            return Run(error.ending, None, 0)
        except DeviceMissing:
            return Run(Ending.DEVICE_MISSING, None, 0)
        finally:
            keys.drop()
        try:
            with lent(devices) if self._own_machine else nullcontext(devices) as usable:
                run = await self._run_container(spec, usable)
        except DeviceMissing:
            run = Run(Ending.DEVICE_MISSING, None, 0)
        refused = (CONNECTION_REFUSED,) if self.facts.proxy_counts.get("refused") else ()
        if run.ending is not Ending.RAN:
            return Outcome(run.ending, run.exit_code, {}, (), refused, run.seconds)
        sealed = await asyncio.to_thread(
            seal_results, self._scratch, spec, context, self._session, self._put_block
        )
        errors = (*refused, *sealed.errors)
        return Outcome(run.ending, run.exit_code, sealed.results, sealed.empty, errors, run.seconds)

    async def _run_container(self, spec: TaskSpec, devices: list[PassedDevice]) -> Run:
        proxy = Proxy(self._scratch.proxy, spec.connections, self._dial, self._tell_refused)
        settings = container_settings(
            spec.limits, self._scratch, devices, proxy=bool(spec.connections)
        )
        self.facts.proxy_counts = proxy.counts
        if spec.connections:
            await proxy.start()
        self._runner = Runner(self._engine, spec, settings)
        if self._stopping:
            self._runner.stop()
        try:
            return await asyncio.to_thread(self._runner.run)
        finally:
            await proxy.stop()

    async def _tell_refused(self, count: int) -> None:
        with contextlib.suppress(RpcError, PiLost):
            await asyncio.to_thread(self._pi, REFUSED, count)

    def _end(self, result: Run | Outcome, errors: tuple[str, ...] = ()) -> None:
        if isinstance(result, Run):
            result = Outcome(result.ending, result.exit_code, {}, (), errors, result.seconds)
        self.facts.outcome = result
        self.state = State.DONE

    async def halt(self) -> None:
        """End a run that is going on, and wait until it has ended."""
        self._stopping = True
        if self._runner is not None:
            self._runner.stop()
        if self._worker is not None:
            await asyncio.wait([self._worker])

    async def erase(self) -> Erased:
        """Remove everything of the task. Raises EngineFailed or ScratchError."""
        if self.keys is not None:
            self.keys.drop()
        erased = await asyncio.to_thread(erase_task, self._engine, self._scratch, self._brought)
        self.state = State.CLEANED
        return erased

    def _get_block(self, cid: str) -> bytes:
        return _bytes(self._pi("get_block", cid))

    def _put_block(self, cid: str, block: bytes) -> None:
        self._pi("put_block", [cid, block])

    def _image_block(self, image_id: bytes, index: int) -> bytes:
        return _bytes(self._pi("image_block", [image_id, index]))


def _bytes(answer: object) -> bytes:
    if not isinstance(answer, bytes):
        raise RpcError("bad_answer", "the Pi answered something else than bytes")
    return answer

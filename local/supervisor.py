"""The supervisor: keeps declared services running as one tree, and ends the tree as one.

One asyncio task per service: wait for its dependencies, start, wait until ready, wait for its end, start again with
back-off. It knows processes, not what they do; `stack.py` declares them and `stack_process.py` runs this under a guard.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from local import process_tree
from local.service_log import ServiceLog
from local.services import Service, in_start_order
from local.state import ServiceState, ServiceStatus, StackPhase
from studio import clock

log = structlog.get_logger()

# Told of every change: the phase of the whole, the sentence of a failure, each service by name.
OnChange = Callable[[StackPhase, str | None, dict[str, ServiceStatus]], None]

_PROBE_INTERVAL_SECONDS = 0.1
_BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_HEALTHY_AFTER_SECONDS = 60.0  # a service that lived this long starts its back-off anew


class StartFailed(Exception):
    """A service that requests need did not come up; the message is the sentence for the user."""


@dataclass(slots=True)
class _Unit:
    """A service and what is happening to it."""

    service: Service
    log: ServiceLog
    state: ServiceState = ServiceState.WAITING
    since: str = ""
    restarts: int = 0
    process: asyncio.subprocess.Process | None = None
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    has_stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.returncode is None else None

    def status(self) -> ServiceStatus:
        service = self.service
        return ServiceStatus(self.state, self.pid, service.port, self.since, self.restarts, service.essential)


class Supervisor:
    """Runs services until `stop` is called or one that requests need cannot be started."""

    def __init__(self, services: tuple[Service, ...], logs: Path, on_change: OnChange) -> None:
        self._units = {s.name: _Unit(s, ServiceLog(logs / f"{s.name}.log")) for s in in_start_order(services)}
        self._on_change = on_change
        self._stopping = asyncio.Event()
        self._spawning = asyncio.Lock()  # a child that is just being born must not be taken for an orphan
        self._failure: str | None = None

    def stop(self) -> None:
        """Begin an orderly stop; more calls change nothing."""
        self._stopping.set()

    async def run(self) -> str | None:
        """Supervise until stopped. The sentence that explains a failed start, or None after an ordinary stop."""
        process_tree.adopt_orphans()
        for unit in self._units.values():
            self._enter(unit, ServiceState.WAITING)
        tasks = [asyncio.create_task(self._keep(unit)) for unit in self._units.values()]
        tasks.append(asyncio.create_task(self._end_orphans()))
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(unit) for unit in self._units.values()))
        await asyncio.to_thread(process_tree.end, lambda: process_tree.descendants(os.getpid()), 1.0)
        self._report()
        return self._failure

    async def _keep(self, unit: _Unit) -> None:
        """One service's whole life."""
        service = unit.service
        for name in () if service.waits_itself else service.depends_on:
            await self._units[name].was_ready.wait()
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._live(unit)
            except StartFailed as failed:
                reason = str(failed)
            else:
                if service.runs_once:
                    unit.was_ready.set()
                    self._enter(unit, ServiceState.DONE)
                    return
                assert unit.process is not None
                reason = f"{service.name} {_describe_end(unit.process.returncode)}."
            if service.essential and not unit.was_ready.is_set():
                self._failure = self._failure or reason
                self.stop()
                self._enter(unit, ServiceState.FAILED)
                return
            failures = 0 if time.monotonic() - started > _HEALTHY_AFTER_SECONDS else failures
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            failures += 1
            unit.restarts += 1
            self._enter(unit, ServiceState.RESTARTING)
            log.warning("service_ended", reason=reason, restart_in_seconds=pause, restarts=unit.restarts)
            await asyncio.sleep(pause)

    async def _live(self, unit: _Unit) -> None:
        """From start to end of one process. StartFailed when it did not become ready."""
        service = unit.service
        self._enter(unit, ServiceState.STARTING)
        await self._call(service, service.prepare)
        async with self._spawning:
            unit.process = await self._spawn(unit)
        self._enter(unit, ServiceState.STARTING)
        try:
            async with asyncio.timeout(service.start_timeout_seconds):
                await self._until_ready(unit)
        except TimeoutError:
            await self._terminate(unit)
            raise StartFailed(
                f"{service.name} was not ready after {service.start_timeout_seconds:.0f} s; see {unit.log.path}."
            ) from None
        if not service.runs_once:
            unit.was_ready.set()
            self._enter(unit, ServiceState.READY)
            await unit.process.wait()

    async def _spawn(self, unit: _Unit) -> asyncio.subprocess.Process:
        service = unit.service
        unit.log.rotate()
        descriptor = unit.log.open()
        try:
            return await asyncio.create_subprocess_exec(  # from the main thread: see dies_with_parent
                *service.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**os.environ, **service.env},
                cwd=service.cwd,
                user=service.os_user,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops everything in order
                preexec_fn=process_tree.dies_with_parent(service.stop_signal),
            )
        except OSError as error:
            raise StartFailed(f"{service.name} could not be started: {error}.") from error
        finally:
            os.close(descriptor)

    async def _call(self, service: Service, step: Callable[[], None]) -> None:
        """Run a service's own step in a thread. Whatever goes wrong in it is a failed start of that service."""
        try:
            await asyncio.to_thread(step)
        except Exception as error:
            log.info("service_step_failed", service=service.name, exc_info=error)
            raise StartFailed(f"{service.name} could not be set up: {error}") from error

    async def _until_ready(self, unit: _Unit) -> None:
        service, process = unit.service, unit.process
        assert process is not None
        if service.runs_once:
            if await process.wait() != 0:
                raise self._ended_early(unit)
            return
        while not await asyncio.to_thread(service.is_ready):
            if process.returncode is not None:
                raise self._ended_early(unit)
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)
        if process.returncode is not None:  # whoever answered the probe is another process on the same port
            raise self._ended_early(unit)
        await self._call(service, service.furnish)

    def _ended_early(self, unit: _Unit) -> StartFailed:
        assert unit.process is not None
        what = "its work was done" if unit.service.runs_once else "it was ready"
        end = _describe_end(unit.process.returncode)
        return StartFailed(f"{unit.service.name} {end} before {what}; {unit.log.path} ends with:\n{unit.log.tail()}")

    async def _stop(self, unit: _Unit) -> None:
        """Stop a service once all that depend on it have stopped."""
        for other in self._units.values():
            if unit.service.name in other.service.depends_on:
                await other.has_stopped.wait()
        if unit.pid is not None:
            self._enter(unit, ServiceState.STOPPING)
            await self._terminate(unit)
        if unit.state not in (ServiceState.FAILED, ServiceState.DONE):
            self._enter(unit, ServiceState.STOPPED)
        unit.has_stopped.set()  # only now may what it depends on stop

    async def _terminate(self, unit: _Unit) -> None:
        """Ask, wait, kill: the process and then what is left of its session."""
        process, service = unit.process, unit.service
        assert process is not None
        with suppress(ProcessLookupError):
            process.send_signal(service.stop_signal)
        try:
            async with asyncio.timeout(service.stop_grace_seconds):
                await process.wait()
        except TimeoutError:
            log.info("service_killed", service=service.name, after_seconds=service.stop_grace_seconds)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _end_orphans(self) -> None:
        """End what services leave behind when they die: nobody else answers for an adopted process.

        A service leads a session of its own, and our own short commands share ours, so an orphan is a child that is
        neither.
        """
        while True:
            await asyncio.sleep(1.0)
            async with self._spawning:
                known = {unit.process.pid for unit in self._units.values() if unit.process}
                for pid in process_tree.children(os.getpid()):
                    with suppress(ProcessLookupError):
                        if pid not in known and os.getsid(pid) != os.getsid(0):
                            process_tree.kill_child(pid)

    def _enter(self, unit: _Unit, state: ServiceState) -> None:
        if unit.state is not state:
            log.info("service_state", service=unit.service.name, state=state.value, pid=unit.pid)
        unit.state, unit.since = state, clock.now().isoformat(timespec="milliseconds")
        self._report()

    def _report(self) -> None:
        self._on_change(self._phase(), self._failure, {name: unit.status() for name, unit in self._units.items()})

    def _phase(self) -> StackPhase:
        if all(unit.has_stopped.is_set() for unit in self._units.values()):
            return StackPhase.STOPPED
        if self._stopping.is_set():
            return StackPhase.STOPPING
        essential = [unit for unit in self._units.values() if unit.service.essential]
        return StackPhase.READY if all(unit.was_ready.is_set() for unit in essential) else StackPhase.STARTING


def _describe_end(returncode: int | None) -> str:
    assert returncode is not None
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit status {returncode}"


async def supervise(services: tuple[Service, ...], logs: Path, on_change: OnChange) -> str | None:
    """Run services until SIGTERM or SIGINT; the sentence of a failed start, or None."""
    supervisor = Supervisor(services, logs, on_change)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    return await supervisor.run()

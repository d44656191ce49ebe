"""One running engine: its process, whether it answers, its own token counters, its end.

What the engine is for, and what is written about it, is the business of `replica_slot.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from local import process_tree
from local.engine_command import EngineSpec
from local.service_log import ServiceLog

_REQUEST = aiohttp.ClientTimeout(total=5.0)
_ADAPTER = aiohttp.ClientTimeout(total=30.0)
_WARM_UP = aiohttp.ClientTimeout(total=300.0)  # the first request may compile
_POLL_SECONDS = 0.2


class EngineFailed(Exception):
    """The engine ended, does not answer, or could not be started. The message is the reason that is recorded."""


class EngineUnready(Exception):
    """It did not do it now; it may later."""


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """What an engine says of itself at an instant."""

    prompt_tokens: int
    completion_tokens: int
    requests: int  # running and waiting

    @classmethod
    def parse(cls, exposition: str) -> EngineMetrics:
        """From `/metrics`, summed over the engine's labels."""
        totals = dict.fromkeys(_METRIC_NAMES, 0.0)
        for line in exposition.splitlines():
            name = line.partition("{")[0].partition(" ")[0]
            if name in totals:
                totals[name] += float(line.rpartition(" ")[2])
        prompt, completion, running, waiting = (int(totals[name]) for name in _METRIC_NAMES)
        return cls(prompt, completion, running + waiting)


_METRIC_NAMES = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)


class EngineProcess:
    """A started engine. Its worker processes live in its session and end with it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: ServiceLog, http: aiohttp.ClientSession):
        self._process = process
        self._http = http
        self._log = log
        self.url = url
        self.pid = process.pid

    @classmethod
    async def start(
        cls,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        port: int,
        log: ServiceLog,
        http: aiohttp.ClientSession,
    ) -> EngineProcess:
        """Start it; nothing is said yet about whether it works."""
        log.rotate()
        descriptor = log.open()
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=environment,
                start_new_session=True,
                preexec_fn=process_tree.dies_with_parent(signal.SIGKILL),  # an engine keeps nothing
            )
        except OSError as error:
            raise EngineFailed(f"cannot be started: {error}") from error
        finally:
            os.close(descriptor)
        return cls(process, f"http://127.0.0.1:{port}", log, http)

    async def until_healthy(self, patience_seconds: float) -> None:
        """Wait until `/health` says 200. EngineFailed when it does not within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                while True:
                    if await self._healthy():
                        return
                    await asyncio.sleep(_POLL_SECONDS)
        raise EngineFailed(f"was not healthy after {patience_seconds:.0f} s")

    async def answer(self, spec: EngineSpec) -> float:
        """Have it answer one real request; how many seconds that took."""
        path, body = spec.warm_up_request()
        began = time.monotonic()
        try:
            async with self._http.post(self.url + path, json=body, timeout=_WARM_UP) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineFailed(f"did not answer its first request: {error!r}") from error
        if response.status != 200:
            raise EngineFailed(f"answered its first request with {response.status}: {text[:500]}")
        return time.monotonic() - began

    async def metrics(self) -> EngineMetrics | None:
        """Its counters now; None when it does not answer."""
        try:
            async with self._http.get(f"{self.url}/metrics", timeout=_REQUEST) as response:
                return EngineMetrics.parse(await response.text()) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def settled_metrics(self) -> EngineMetrics:
        """Counters that have come to rest: nothing runs, and two readings agree."""
        before = await self.metrics()
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            after = await self.metrics()
            if after is not None and after == before and after.requests == 0:
                return after
            before = after

    async def load_adapter(self, name: str, folder: Path) -> str | None:
        """Have it load a LoRA adapter from an absolute folder; its reason when it refuses. May raise EngineUnready."""
        return await self._adapters("load", {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, name: str) -> None:
        """Have it forget an adapter; streams that run on it end well. One it does not have is no error.

        May raise EngineUnready.
        """
        await self._adapters("unload", {"lora_name": name})

    async def _adapters(self, verb: str, body: dict[str, str]) -> str | None:
        try:
            async with self._http.post(f"{self.url}/v1/{verb}_lora_adapter", json=body, timeout=_ADAPTER) as response:
                said = f"{response.status}: {(await response.text())[:500]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineUnready(f"no answer: {error!r}") from error
        if response.status >= 500:
            raise EngineUnready(said)
        return None if response.status == 200 else said

    async def ended(self) -> EngineFailed:
        """Wait for its end; why, as the log tells it."""
        code = await self._process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return EngineFailed(f"{how}; its log ends with:\n{self._log.tail()}")

    async def stop(self, grace_seconds: float) -> None:
        """End it and its workers."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()

    async def _healthy(self) -> bool:
        try:
            async with self._http.get(f"{self.url}/health", timeout=_REQUEST) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

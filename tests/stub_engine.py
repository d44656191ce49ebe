"""A stub engine as a process of a test: `with StubEngine(tokens_per_second=50) as engine: ... engine.url`.
What it answers is `benchmarks/stub_engine`."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class EngineCounters:
    """Since the engine's start."""

    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int
    requests_running: int


class StubEngine:
    """Ready on a loopback port (0: a free one) inside the `with` block."""

    def __init__(
        self,
        *,
        model: str = "stub",
        tokens_per_second: float = 0,
        tokens_per_write: int = 16,
        die_after: int | None = None,
        cached: int = 0,
        remember: bool = False,
        ignore_limit: int | None = None,
        port: int = 0,
    ) -> None:
        self._arguments = [
            *("--port", str(port), "--model", model, "--cached", str(cached)),
            *("--tokens-per-second", str(tokens_per_second), "--tokens-per-write", str(tokens_per_write)),
        ]
        if remember:
            self._arguments.append("--remember")
        if ignore_limit is not None:
            self._arguments += ["--ignore-limit", str(ignore_limit)]
        if die_after is not None:
            self._arguments += ["--die-after", str(die_after)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stub_engine", *self._arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self.kill()
            raise RuntimeError("the stub engine ended before it listened; its reason is on stderr")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: an engine process that dies at once. A second call does nothing."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def counters(self) -> EngineCounters:
        with urlopen(f"{self.url}/metrics", timeout=10) as response:  # noqa: S310 (our own loopback URL)
            exposition = response.read().decode()
        figures = {
            name: int(float(value)) for name, value in re.findall(r"^vllm:(\w+){.*} (\S+)$", exposition, re.MULTILINE)
        }
        return EngineCounters(
            prompt_tokens=figures["prompt_tokens_total"],
            cached_tokens=figures["prompt_tokens_cached_total"],
            generation_tokens=figures["generation_tokens_total"],
            requests_running=figures["num_requests_running"],
        )

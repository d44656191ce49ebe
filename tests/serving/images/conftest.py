"""One real engine for all tests of this folder that need one: a tiny random vision model, which starts in seconds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local.engine_command import EngineSpec
from studio.settings import REPOSITORY, settings
from tests.server import free_port
from tests.serving.images import tiny_vision_model

START_SECONDS = 400  # about 40 s on two quiet cores
SLOTS = 2
FLAGS = ("--dtype=bfloat16", "--enforce-eager")
ENV = {"VLLM_CPU_KVCACHE_SPACE": "1"}
SPEC = EngineSpec("tiny", "stub", "tiny", "chat", tiny_vision_model.CONTEXT_TOKENS, SLOTS, FLAGS, ENV)


@dataclass(frozen=True, slots=True)
class TinyEngine:
    """A vLLM that runs. It has SLOTS places, and takes some ten seconds to fill its context with one answer."""

    url: str
    pid: int
    http: httpx.Client

    def requests(self, kind: str) -> int:
        """How many it says are `running` or `waiting`."""
        exposition = self.http.get("/metrics").text
        found = re.search(rf"^vllm:num_requests_{kind}{{[^}}]*}} (\S+)$", exposition, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))


@pytest.fixture(scope="package")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyEngine]:
    """Started as the node agent starts one."""
    folder, port, python = tmp_path_factory.mktemp("vision"), free_port(), settings().engine_python
    tokenizer = REPOSITORY / "build" / "models" / "smollm2-135m-instruct"
    script = Path(tiny_vision_model.__file__)
    subprocess.run([str(python), str(script), str(folder / "model"), str(tokenizer)], check=True, capture_output=True)
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            SPEC.arguments(python, folder / "model", port),
            env=SPEC.environment(os.environ),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            while not _is_healthy(http):
                assert process.poll() is None, (folder / "engine.log").read_text()[-5_000:]
                assert time.monotonic() < deadline, (folder / "engine.log").read_text()[-5_000:]
                time.sleep(0.5)
            yield TinyEngine(url, process.pid, http)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_healthy(http: httpx.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx.HTTPError:
        return False

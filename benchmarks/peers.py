"""The gateway's peers as processes of a benchmark: LiteLLM's proxy, which does some of what we do, and vllm-router,
which only routes. Both from `build/peers` (`make peers`), each as its own documentation starts it, one worker."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson

from studio.settings import REPOSITORY
from tests.server import free_port

PEERS = REPOSITORY / "build" / "peers" / "bin"
LITELLM_KEY = "sk-benchmark"
START_SECONDS = 120


class PeersNotInstalled(Exception):
    def __init__(self) -> None:
        super().__init__("The peers of this benchmark are not installed: run `make peers`, or leave out --peers")


@dataclass(frozen=True, slots=True)
class Peer:
    url: str
    pid: int


@contextmanager
def litellm_in_front_of(engines: Mapping[str, str]) -> Iterator[Peer]:
    """One proxy for all engines, with a master key and without a database, callbacks or retries."""
    port = free_port()
    configuration = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {"model": "openai/stub", "api_base": f"{url}/v1", "api_key": "none"},
            }
            for name, url in engines.items()
        ],
        "general_settings": {"master_key": LITELLM_KEY},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
    }
    with TemporaryDirectory(prefix="studio-litellm-") as folder:
        file = Path(folder) / "litellm.yaml"
        file.write_bytes(orjson.dumps(configuration))  # JSON is YAML
        arguments = ("litellm", "--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        # It would fetch its table of prices, and tell its makers, at each start.
        environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
        with _process(arguments, environment, f"http://127.0.0.1:{port}", "/health/liveliness", folder) as peer:
            yield peer


@contextmanager
def vllm_router_in_front_of(engine_url: str) -> Iterator[Peer]:
    """One router for one engine."""
    port = free_port()
    arguments = (
        "vllm-router", "--host", "127.0.0.1", "--port", str(port), "--worker-urls", engine_url,
        "--policy", "round_robin", "--prometheus-port", str(free_port()), "--log-level", "error",
    )  # fmt: skip
    with (
        TemporaryDirectory(prefix="studio-vllm-router-") as folder,
        _process(arguments, {}, f"http://127.0.0.1:{port}", "/health", folder) as peer,
    ):
        yield peer


@contextmanager
def _process(
    arguments: tuple[str, ...], environment: Mapping[str, str], url: str, health: str, folder: str
) -> Iterator[Peer]:
    program = PEERS / arguments[0]
    if not program.exists():
        raise PeersNotInstalled
    log = Path(folder) / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), *arguments[1:]], env=os.environ | environment, stdout=output, stderr=output, cwd=folder
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url + health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{arguments[0]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield Peer(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False

"""Start and size: a warm `studio up` until the first token of the chat model, and what the idle platform weighs.

Hypothesis. Of the time to the first token our own part is under 15 s; the rest is vLLM, which we only wait for. All
processes but the engines weigh under 1.5 GB when idle.
Sketch. PostgreSQL 1 s, migrations 2 s, node agent and gateway 1 s each, weights verified in 1 s; Dagster beside them.
Dagster's code server, daemon and webserver 200-250 MB each; gateway, node agent and supervisor 100 MB each; SeaweedFS
150 MB; PostgreSQL 100 MB.
Limit: the engine's own start, from its process start to its first token, as the node agent recorded it in `warmups`.
Control: a second request right after the first; it shows that the wait was the start and not the model.
Known limit. "Warm" is a stack that has been up before: database and weights exist, and the page cache is warm too.

Acts on the stack of this folder (`STUDIO_STATE_DIR`): starts it, stops it, starts it again with the clock running, and
leaves it as it was found, up or down. Run: make bench NAME=startup, or python -m benchmarks.startup."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from time import perf_counter, sleep
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from benchmarks.process import pss_bytes, tree
from benchmarks.stack import key_of, status, studio
from local.paths import StatePaths
from local.stack_process import holder
from studio.db.catalog import ModelVariant
from studio.db.fleet import Replica, Warmup
from studio.db.sessions import engine_for, unit_of_work

OWN_SECONDS_TARGET = 15
IDLE_BYTES_TARGET = 1.5e9
FIRST_TOKEN_TIMEOUT_SECONDS = 600
SETTLE_SECONDS = 20  # Dagster's daemon has ticked a few times by then


@dataclass(frozen=True, slots=True)
class EngineStart:
    """What the node agent saw of the engine that answered."""

    weights_seconds: float  # fetch and verify: our part
    engine_seconds: float  # process start to the first token


@dataclass(frozen=True, slots=True)
class Start:
    """One warm start."""

    first_token_seconds: float
    second_request_seconds: float
    engine: EngineStart

    @property
    def own_seconds(self) -> float:
        return self.first_token_seconds - self.engine.engine_seconds


def warm_start(key: str, model: str) -> Start:
    """Stops the stack and starts it with the clock running."""
    gateway_url, database_url = status()["gateway_url"], status()["database_url"]
    studio("down")
    started = perf_counter()
    with subprocess.Popen([sys.executable, "-m", "local", "up"], stdout=subprocess.DEVNULL) as command:
        wait_for_token(gateway_url, key, model)
        first_token_seconds = perf_counter() - started
        again = perf_counter()
        wait_for_token(gateway_url, key, model)
        second_request_seconds = perf_counter() - again
    if command.returncode:
        raise RuntimeError(f"`studio up` ended with {command.returncode}")
    return Start(first_token_seconds, second_request_seconds, newest_engine_start(database_url, model))


def wait_for_token(gateway_url: str, key: str, model: str) -> None:
    """Asks until somebody answers: a gateway that is not there yet or a model that is still cold is asked again."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "stream": True}
    request = Request(  # noqa: S310 (our own gateway)
        f"{gateway_url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    deadline = perf_counter() + FIRST_TOKEN_TIMEOUT_SECONDS
    while perf_counter() < deadline:
        try:
            with urlopen(request, timeout=60) as response:  # noqa: S310 (our own gateway)
                if any(_has_content(event) for event in response):
                    return
        except HTTPError as refused:
            if refused.code != 503:
                raise
        except (URLError, ConnectionError):
            pass
        sleep(0.1)
    raise TimeoutError(f"no token of {model} within {FIRST_TOKEN_TIMEOUT_SECONDS} s; see `studio logs`")


def newest_engine_start(database_url: str, model: str) -> EngineStart:
    """The last warm-up of this variant, or of the one whose engine it shares."""
    with unit_of_work(engine_for(database_url)) as session:
        served_by = session.scalars(select(ModelVariant.served_by).where(ModelVariant.id == model)).one()
        warmup = session.scalars(
            select(Warmup).where(Warmup.variant_id == (served_by or model)).order_by(Warmup.ready_at.desc()).limit(1)
        ).one()
        return EngineStart(
            weights_seconds=float(warmup.weights_seconds),
            engine_seconds=float(warmup.start_seconds + warmup.first_token_seconds),
        )


def idle_bytes() -> dict[str, int]:
    """Memory of each service with its children, and of the supervisor: all processes of the stack but the engines."""
    stack = status()
    with unit_of_work(engine_for(stack["database_url"])) as session:
        engine_pids = session.scalars(
            select(Replica.pid).where(Replica.state.in_(("starting", "ready", "draining")))
        ).all()
    engines = {member for pid in engine_pids if pid is not None for member in tree(pid)}
    members = {name: set(tree(one["pid"])) - engines for name, one in stack["services"].items() if one["pid"]}
    root = holder(StatePaths.from_environment())
    if root is None:
        raise RuntimeError("the stack went down while it was measured")
    members["supervisor"] = set(tree(root)) - engines - set().union(*members.values())
    return {name: pss_bytes(tuple(pids)) for name, pids in members.items()}


def _has_content(event: bytes) -> bool:
    if not event.startswith(b"data: {"):
        return False
    choices = json.loads(event.removeprefix(b"data: "))["choices"]
    return any(choice["delta"].get("content") for choice in choices)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="Warm start and idle memory.")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tenant", default="benchmark", help="for whom a key of an hour is made")
    arguments = parser.parse_args()
    was_up = status()["phase"] != "stopped"
    studio("up")
    key = key_of(arguments.tenant)
    start = warm_start(key, arguments.model)
    studio("up", "--wait-for-all")
    sleep(SETTLE_SECONDS)
    sizes = idle_bytes()
    if not was_up:
        studio("down")

    result = Table("figure", "value")
    result.add_row("first token", f"{start.first_token_seconds:.1f} s")
    result.add_row("engine", f"{start.engine.engine_seconds:.1f} s")
    result.add_row("our own part", f"{start.own_seconds:.1f} s (target < {OWN_SECONDS_TARGET})")
    result.add_row("weights, part of it", f"{start.engine.weights_seconds:.1f} s")
    result.add_row("second request", f"{start.second_request_seconds:.2f} s")
    result.add_section()
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        result.add_row(name, f"{size / 1e6:.0f} MB")
    idle = sum(sizes.values())
    result.add_row("all but engines", f"{idle / 1e6:.0f} MB (target < {IDLE_BYTES_TARGET / 1e6:.0f})")
    Console().print(result)
    ratios = {
        "own_seconds_over_target": round(start.own_seconds / OWN_SECONDS_TARGET, 3),
        "first_token_over_engine": round(start.first_token_seconds / start.engine.engine_seconds, 3),
        "idle_bytes_over_target": round(idle / IDLE_BYTES_TARGET, 3),
    }
    figures = asdict(start) | {"own_seconds": start.own_seconds, "idle_bytes": sizes}
    print(json.dumps({"name": "startup", "ratios": ratios, "figures": figures}))


if __name__ == "__main__":
    main()

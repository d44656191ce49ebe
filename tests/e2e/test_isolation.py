"""Tenants on one engine: nobody is served from another's prompts, and nobody can tell that there were any.

Through a second gateway, which is like the first but for the salt, they are served from them by the same engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from local.ports import Ports
from local.stack import Stack
from studio.settings import REPOSITORY
from tests.e2e.conftest import Cloud
from tests.e2e.test_main_job import CHAT, authenticates, eventually
from tests.server import free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

WORDS = 1_000  # about 1,800 tokens, of the model's 2,048
ROUNDS = 3
TRIES = 4  # at times, of which other work beside may spoil some


def prompt(subject: int) -> str:
    """Long, and from its first word on unlike any other subject's."""
    return " ".join(f"{subject}{word}" if word % 9 == 0 else "and" for word in range(WORDS)) + " end"


class Asker:
    """One tenant, or whoever stands at the engine itself."""

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._model = model
        self._http = httpx.Client(base_url=url, headers=headers, timeout=120)

    def close(self) -> None:
        """Its connections."""
        self._http.close()

    def is_answered(self) -> bool:
        """Whether the model is there."""
        answer = self._http.get(f"/v1/models/{self._model}")
        return bool(answer.json()["state"] == "warm")

    def ask(self, text: str, **fields: Any) -> tuple[int, int, float]:
        """Prompt tokens, those of them from the cache, and seconds."""
        body = {"model": self._model, "messages": [{"role": "user", "content": text}], "max_tokens": 1} | fields
        began = time.monotonic()
        answer = self._http.post("/v1/chat/completions", json=body)
        seconds = time.monotonic() - began
        answer.raise_for_status()
        usage = answer.json()["usage"]
        return usage["prompt_tokens"], (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0, seconds


@pytest.fixture(scope="module")
def keys(cloud: Cloud) -> tuple[str, str]:
    """Of two tenants."""
    made = []
    for slug in ("canary-a", "canary-b"):
        cloud.studio("tenant", "create", slug, "--name", slug, "--city", "10115 Berlin", "--email", "ap@a.example")
        made.append(cloud.studio("key", "create", "--tenant", slug)["key"])
    eventually(lambda: all(authenticates(cloud, key) for key in made), "the gateway knows both keys")
    return made[0], made[1]


@contextmanager
def asking(url: str, keys: tuple[str, str]) -> Iterator[tuple[Asker, Asker]]:
    """The two at a gateway that has the model warm."""
    a, b = (Asker(url, CHAT, key) for key in keys)
    eventually(a.is_answered, "the model is warm", 300)
    yield a, b
    a.close()
    b.close()


@pytest.fixture(scope="module")
def tenants(cloud: Cloud, keys: tuple[str, str]) -> Iterator[tuple[Asker, Asker]]:
    """Two tenants of the same gateway."""
    with asking(cloud.status["gateway_url"], keys) as both:
        yield both


@pytest.fixture
def careless(cloud: Cloud, keys: tuple[str, str], tmp_path: Path) -> Iterator[tuple[Asker, Asker]]:
    """The same two at a gateway of the same cloud that sends no salt. What it serves is metered and billed as ever."""
    port, internal = free_port(), free_port()
    stack = Stack.from_environment(Ports(cloud.offset), {"STUDIO_STATE_DIR": str(cloud.folder)})
    own = {"STUDIO_GATEWAY_PORT": str(port), "STUDIO_GATEWAY_INTERNAL_PORT": str(internal)}
    environment = {
        **cloud.environment,
        **stack._gateway(()).env,
        **own,
        "STUDIO_JOURNAL_DIR": str(tmp_path / "journal"),
    }
    process = subprocess.Popen([sys.executable, "-m", "tests.serving.without_salt"], cwd=REPOSITORY, env=environment)
    try:
        eventually(lambda: is_ready(internal), "the careless gateway is ready", 120)
        with asking(f"http://127.0.0.1:{port}", keys) as both:
            yield both
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert list((tmp_path / "journal").iterdir()) == [], "its usage is in the database"


def is_ready(port: int) -> bool:
    """What its internal listener says."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


class Times:
    """How long answers took, as parts of the first one with the same prompt; and, hard, what of it was cached."""

    def __init__(self, tenants: tuple[Asker, Asker], careless: tuple[Asker, Asker]) -> None:
        self._tenants, self._careless = tenants, careless
        self.own: list[float] = []
        self.foreign: list[float] = []
        self.unsalted: list[float] = []

    def round(self, subject: int) -> None:
        """One prompt, known to nobody."""
        (a, b), (careless_a, careless_b) = self._tenants, self._careless
        text = prompt(subject)
        tokens, cached, first = a.ask(text)
        assert cached < 64, "at most the template's own beginning"
        _, cached_again, again = a.ask(text)
        assert cached_again > 0.9 * tokens
        _, cached_of_b, of_b = b.ask(text)
        assert cached_of_b < 64, "B gets nothing of A's"
        _, salted, _ = a.ask(text, cache_salt="a session of its own")
        assert salted < 64, "a client's own salt is mixed in"
        _, unsalted, first_unsalted = careless_a.ask(text)
        assert unsalted < 64
        _, cached_of_b, of_b_unsalted = careless_b.ask(text)
        assert cached_of_b > 0.9 * tokens, "without the salt B gets A's"
        self.own.append(again / first)
        self.foreign.append(of_b / first)
        self.unsalted.append(of_b_unsalted / first_unsalted)

    def tell(self) -> bool:
        """Whether by time alone one would know it: a hit takes a sixteenth, and B's answer as long as A's first."""
        hits = max(median(self.own), median(self.unsalted))
        return hits < 0.5 and median(self.foreign) > 3 * hits


def test_a_tenant_hits_its_own_prompts_and_nobody_elses_and_without_the_salt_everybodys(
    tenants: tuple[Asker, Asker], careless: tuple[Asker, Asker]
) -> None:
    for attempt in range(TRIES):
        times = Times(tenants, careless)
        for subject in range(ROUNDS):
            times.round(1_000 + ROUNDS * attempt + subject)
        if times.tell():
            break
    assert times.tell(), vars(times)


def test_a_client_cannot_choose_another_tenants_salt(tenants: tuple[Asker, Asker]) -> None:
    a, b = tenants
    text = prompt(3_000)
    a.ask(text, cache_salt="shared secret")
    tokens, cached, _ = b.ask(text, cache_salt="shared secret")
    assert cached < 64 < tokens


LAUNCH = """
mutation { launchRun(executionParams: {runConfigData: {}, selector: {jobName: "certify_isolation",
    repositoryLocationName: "studio", repositoryName: "__repository__"}}) { __typename } }
"""


def test_the_nightly_probe_passes_and_is_signed(cloud: Cloud, tenants: tuple[Asker, Asker]) -> None:
    """Under the cloud's own Dagster, which gives it what it works with."""
    launched = httpx.post(f"{cloud.status['dagster_url']}/graphql", json={"query": LAUNCH}, timeout=60).json()
    assert launched["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", launched
    query = (
        "select c.document, c.signature, k.public_key from isolation_certificates c"
        " join tenants t on t.id = c.tenant_id join signing_keys k on k.id = c.key_id where t.slug = 'canary-a'"
    )
    eventually(lambda: bool(cloud.query(query)), "a certificate is there", 300)
    [(text, signature, pem)] = cloud.query(query)
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    key.verify(signature, text.encode())
    document = json.loads(text)
    assert document["result"] == "passed", text
    assert {probe["subject"] for probe in document["canaries"]} >= {"rows", "files", "adapters", "keys", "cache"}

"""Tenants on one engine: nobody is served from another's prompts, and nobody can tell that there were any.

That they would be without our salt is shown in `tests/local/test_real_engine.py`, on an engine that nobody bills.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.e2e.conftest import Cloud
from tests.e2e.test_main_job import CHAT, authenticates, eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

WORDS = 1_000  # about 1,800 tokens, of the model's 2,048
ROUNDS = 2


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
def tenants(cloud: Cloud) -> Iterator[tuple[Asker, Asker]]:
    """Two tenants of the same gateway."""
    url, keys = cloud.status["gateway_url"], []
    for slug in ("canary-a", "canary-b"):
        cloud.studio("tenant", "create", slug, "--name", slug, "--city", "10115 Berlin", "--email", "ap@a.example")
        keys.append(cloud.studio("key", "create", "--tenant", slug)["key"])
    eventually(lambda: all(authenticates(cloud, key) for key in keys), "the gateway knows both keys")
    a, b = (Asker(url, CHAT, key) for key in keys)
    eventually(a.is_answered, "the model is warm", 300)
    yield a, b
    a.close()
    b.close()


def test_a_tenant_hits_its_own_prompts_and_nobody_elses(tenants: tuple[Asker, Asker]) -> None:
    a, b = tenants
    own, foreign = [], []
    for subject in range(ROUNDS):
        text = prompt(1_000 + subject)
        tokens, cached, first = a.ask(text)
        assert cached < 64, "at most the template's own beginning"
        _, cached_again, again = a.ask(text)
        assert cached_again > 0.9 * tokens
        _, cached_of_b, of_b = b.ask(text)
        assert cached_of_b < 64
        _, salted, _ = a.ask(text, cache_salt="a session of its own")
        assert salted < 64, "a client's own salt is mixed in"
        own.append(again / first)
        foreign.append(of_b / first)
    # By time, too, as parts of the first answer: a hit takes a sixteenth, and B's answer all of it. Wide bounds, since
    # other work may run beside.
    assert median(own) < 0.5
    assert median(foreign) > 3 * median(own)


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

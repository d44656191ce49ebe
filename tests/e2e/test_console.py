"""The console in a browser on the whole cloud: what a person is told of tokens and money is what vLLM has counted."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from local.demo.auditor import Auditor
from tests.console.stage import Stage, play
from tests.console.test_console import needed
from tests.e2e.conftest import Cloud
from tests.e2e.test_main_job import CHAT, authenticates, eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_what_the_playground_says_is_what_the_engine_counted_and_the_ledger_has(cloud: Cloud, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    environment = needed() | {"CONSOLE_TOLD": str(told)}
    cloud.studio(
        "tenant", "create", "onlooker", "--name", "Onlooker GmbH", "--city", "10115 Berlin", "--email", "ap@a.example"
    )
    key = cloud.studio("key", "create", "--tenant", "onlooker")["key"]
    eventually(lambda: authenticates(cloud, key), "the gateway knows the key")
    url = cloud.status["gateway_url"]
    headers = {"authorization": f"Bearer {key}"}
    eventually(
        lambda: all(
            httpx.get(f"{url}/v1/models/{model}", headers=headers).json()["state"] == "warm"
            for model in (CHAT, f"{CHAT}-fast")
        ),
        "both tiers are warm",
        300,
    )
    played = play(Stage(url, "", key, "", "", ""), "--project=engine", environment=environment)
    assert played.returncode == 0, played.stdout + played.stderr
    answers = json.loads(told.read_text())
    assert [one["model"] for one in answers] == [CHAT, f"{CHAT}-fast", CHAT, CHAT]
    for one in answers:
        [(variant, read, written)] = cloud.query(
            "select variant_id, prompt_tokens, completion_tokens from usage_events where request_id = %s",
            one["request"],
        )
        assert (variant, read) == (one["model"], one["read"])
        messages = [{"role": "user", "content": one["question"]}]
        counted = httpx.post(f"{url}/tokenize", json={"model": CHAT, "messages": messages}, headers=headers).json()
        assert counted["count"] == read
        if one is not answers[-1]:  # of what was stopped the page knows what it had read, and the ledger what was made
            assert written == one["written"]
        else:
            assert written >= one["written"] > 0
    auditor = Auditor(cloud.status["database_url"])
    eventually(lambda: all(total.agree for total in auditor.engine_totals()), "events equal the engines' counters")

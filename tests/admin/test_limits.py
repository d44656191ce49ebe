"""`/admin/v1/tenants/{slug}/limits` and `studio limits`: what operators set, and that gateways keep to it at once."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.api import ApiRefused
from studio.settings import REPOSITORY
from tests.admin.conftest import Office
from tests.serving.gateway_process import wait_until

CHAT = "smollm2-135m-instruct"
LIMITS = "/admin/v1/tenants/acme/limits"
NONE: dict[str, Any] = {
    "key": None,
    "model": None,
    "requests_per_second": None,
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "concurrent_requests": None,
}


def told_to(office: Office, key: str) -> dict[str, int]:
    """What the gateway says to a caller, by kind."""
    answer = httpx.get(f"{office.gateway.url}/v1/limits", headers={"authorization": f"Bearer {key}"}, trust_env=False)
    return {one["kind"]: one["limit"] for one in answer.json()["data"]}


def test_they_are_set_replaced_listed_and_cleared(office: Office) -> None:
    made = office.api.put(LIMITS, {"requests_per_minute": 60, "concurrent_requests": 4})
    assert made == NONE | {"requests_per_minute": 60, "concurrent_requests": 4}
    wait_until(lambda: told_to(office, office.customer_key) == {"requests_per_minute": 60, "concurrent_requests": 4}, 1)
    replaced = office.api.put(LIMITS, {"tokens_per_minute": 1_000})
    assert replaced == NONE | {"tokens_per_minute": 1_000}
    wait_until(lambda: told_to(office, office.customer_key) == {"tokens_per_minute": 1_000}, 1)
    of_model = office.api.put(LIMITS, {"model": CHAT, "requests_per_second": 3})
    assert office.api.get(LIMITS) == [replaced, of_model]
    office.api.delete(LIMITS)
    office.api.delete(f"{LIMITS}?model={CHAT}")
    wait_until(lambda: told_to(office, office.customer_key) == {}, 1)
    with pytest.raises(ApiRefused, match="no limits of this scope"):
        office.api.delete(LIMITS)


def test_a_keys_own_limit_is_a_row_of_them(office: Office) -> None:
    created = office.api.post("/admin/v1/tenants/acme/keys", {"name": "slow", "requests_per_second": 2})
    assert NONE | {"key": created["id"], "requests_per_second": 2} in office.api.get(LIMITS)
    [listed] = [key for key in office.api.get("/admin/v1/tenants/acme/keys") if key["id"] == created["id"]]
    assert listed["requests_per_second"] == 2
    wait_until(lambda: told_to(office, created["key"]) == {"requests_per_second": 2}, 1)
    office.api.delete(f"{LIMITS}?key={created['id']}")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "name at least one of requests_per_second"),
        ({"requests_per_minute": 0}, "greater than 0"),
        ({"tokens_per_minute": 10**12}, "less than or equal to"),
        ({"model": "nothing", "requests_per_minute": 1}, "The model `nothing` does not exist"),
        ({"key": "mine", "requests_per_minute": 1}, "key_"),
        ({"key": "key_" + "0" * 32, "requests_per_minute": 1}, "no key with this id"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_limits_that_make_no_sense_are_refused(office: Office, body: dict[str, object], words: str) -> None:
    with pytest.raises(ApiRefused, match=words):
        office.api.put(LIMITS, body)


def test_another_tenants_key_is_not_there(office: Office) -> None:
    operators_key, *_ = office.api.get("/admin/v1/tenants/house/keys")
    with pytest.raises(ApiRefused, match="no key with this id"):
        office.api.put(LIMITS, {"key": operators_key["id"], "requests_per_minute": 1})


def test_the_command_line(office: Office, tmp_path: Path) -> None:
    def studio(*arguments: str) -> str:
        return subprocess.run(
            [str(REPOSITORY / "bin" / "studio"), "limits", *arguments],
            env=os.environ | {"STUDIO_GATEWAY_URL": office.gateway.url, "STUDIO_API_KEY": office.admin_key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    said = studio(
        "set", "--tenant", "acme", "--model", CHAT, "--tokens-per-minute", "40000", "--concurrent-requests", "8"
    )
    assert f"Tenant acme, {CHAT}: 40,000 tokens per minute, 8 concurrent requests." in " ".join(said.split())
    [row] = json.loads(studio("list", "--tenant", "acme", "--json"))
    assert row == NONE | {"model": CHAT, "tokens_per_minute": 40_000, "concurrent_requests": 8}
    assert studio("clear", "--tenant", "acme", "--model", CHAT) == f"Tenant acme, {CHAT}: no limits any more.\n"
    assert studio("list", "--tenant", "acme") == "None.\n"


def test_it_is_all_in_the_audit_log(office: Office) -> None:
    with office.database.superuser() as connection:
        rows = connection.execute("select action, subject, details from audit_log where action ~ '^limits'").fetchall()
    assert ("limits.set", f"all keys, {CHAT}", {"requests_per_second": 3}) in rows
    assert ("limits.clear", "all keys, all models", {}) in rows

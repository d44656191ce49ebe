"""Prices and commitments of a tenant, set by command and by API."""

from __future__ import annotations

import json

import httpx

from tests.admin.conftest import Office
from tests.serving.gateway_process import CHAT

PRICES, COMMITMENTS = "/admin/v1/tenants/acme/prices", "/admin/v1/tenants/acme/commitments"
RESERVATIONS = "/admin/v1/tenants/acme/card-reservations"


def test_a_price_with_tiers_is_set_listed_and_ended_by_command(office: Office) -> None:
    asked = ("--tenant", "acme", "--model", CHAT, "--unit", "prompt", "--reason", "contract 7")
    done = office.studio("price", "set", *asked, "0.015", "--tier", "1000000000=0.01", "--json")
    assert done.returncode == 0, done.stderr
    own = json.loads(done.stdout)
    assert (own["currency"], own["per_million"], own["tiers"]) == (
        "EUR",
        "0.015",
        [{"from_tokens": 1_000_000_000, "per_million": "0.01"}],
    )
    assert own["approved_by"]
    listed = office.studio("price", "list", "--tenant", "acme", "--json")
    assert [one["id"] for one in json.loads(listed.stdout)] == [own["id"]]
    again = office.studio("price", "set", *asked, "0.014")
    assert (again.returncode, "end that one first" in again.stderr) == (1, True)
    ended = office.studio("price", "end", own["id"], "--tenant", "acme", "--at", "2099-01-01T00:00:00Z")
    assert "ends at 2099-01-01" in ended.stdout
    audited = office.studio("price", "end", own["id"], "--tenant", "acme", "--at", "2098-01-01T00:00:00Z")
    assert "ends already" in audited.stderr


def test_what_days_cost_is_set_and_cards_are_reserved_by_command(office: Office) -> None:
    def said(*command: str) -> str:
        done = office.studio(*command)
        return " ".join((done.stdout + done.stderr).split())

    own = ("price", "set", "--tenant", "acme", "--reason", "contract 8")
    reserve = ("gpu", "reserve", "--tenant", "acme", "2", "--reason", "contract 9")
    storage = said(*own, "--model", "storage", "--unit", "storage", "0.0005")
    assert "acme pays 0.0005 EUR per gigabyte-day (prc_" in storage
    hour = said(*own, "--model", "gpu", "--unit", "gpu_hour", "2.10")
    assert "acme pays 2.1 EUR per GPU hour (prc_" in hour
    assert "GPU hours are of no model" in said(*own, "--model", CHAT, "--unit", "gpu_hour", "2.10")
    assert "from now on" in said(*reserve, "--from", "2026-01-01T00:00:00Z")
    assert "acme has 2 cards from" in said(*reserve)
    (made,) = json.loads(office.studio("gpu", "list", "--tenant", "acme", "--json").stdout)
    assert (made["cards"], made["valid_until"], made["reason"]) == (2, None, "contract 9")
    assert "ends at 2099-01-01" in said("gpu", "end", "--tenant", "acme", made["id"], "--at", "2099-01-01T00:00:00Z")
    assert "ends already" in said("gpu", "end", "--tenant", "acme", made["id"])


def test_a_commitment_is_set_and_ended_by_command(office: Office) -> None:
    made = office.studio(
        *("price", "commit", "--tenant", "acme", "5000", "--from", "2098-12", "--reason", "contract 7", "--json")
    )
    assert made.returncode == 0, made.stderr
    commitment = json.loads(made.stdout)
    assert (commitment["amount"], commitment["currency"], commitment["valid_from"]) == ("5000.00", "EUR", "2098-12")
    ended = office.studio("price", "end", commitment["id"], "--tenant", "acme", "--at", "2099-03")
    assert "ends at 2099-03" in ended.stdout
    listed = office.studio("price", "commitments", "--tenant", "acme", "--json")
    assert [one["valid_until"] for one in json.loads(listed.stdout)] == ["2099-03"]


def test_what_cannot_be_is_said_in_a_sentence(office: Office) -> None:
    def refused(path: str, **body: object) -> str:
        headers = {"authorization": f"Bearer {office.admin_key}"}
        answer = httpx.post(f"{office.gateway.url}{path}", json=body, headers=headers)
        assert answer.status_code == 400, answer.text
        message: str = answer.json()["error"]["message"]
        return message

    price = {"model": CHAT, "unit": "prompt", "per_million": "0.01", "reason": "x"}
    assert "is sold by prompt" in refused(PRICES, **price | {"unit": "embedding"})
    assert "no model nosuch" in refused(PRICES, **price | {"model": "nosuch"})
    assert "in the past" in refused(PRICES, **price | {"valid_from": "2026-01-01T00:00:00Z"})
    rising = [{"from_tokens": 10, "per_million": "0.02"}]
    assert "a tier is a lower price" in refused(PRICES, **price | {"tiers": rising})
    assert "is no month" in refused(COMMITMENTS, amount="1", valid_from="2099-13", reason="x")
    assert "this month at the earliest" in refused(COMMITMENTS, amount="1", valid_from="2020-01", reason="x")


def test_only_operators_reach_it(office: Office) -> None:
    for path in (PRICES, COMMITMENTS, RESERVATIONS, "/admin/v1/rerates/2026-11"):
        assert office.status_with(office.admin_key, path) == 200
        assert office.status_with(office.customer_key, path) == 403


def test_rerating_by_command_is_a_dry_run_or_nothing(office: Office) -> None:
    done = office.studio("invoice", "rerate", "2026-11", "--dry-run")
    assert (done.returncode, "0 differences" in done.stdout) == (0, True)
    refused = office.studio("invoice", "rerate", "2026-11")
    assert refused.returncode != 0
    assert "--dry-run" in refused.stderr

"""Opening hours through the front door: what operators see and override, what a caller of a closed model is told."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.api import Api, ApiRefused
from serving.fleet.reconcile import reconcile
from studio import clock
from studio.db.sessions import engine_for, unit_of_work
from studio.settings import REPOSITORY
from tests.admin.conftest import Office
from tests.admin.test_operators import eventually
from tests.serving.gateway_process import GatewayProcess

CHAT = "smollm2-135m-instruct"
EVENING, MORNING = "2026-11-03T18:00:00+01:00", "2026-11-04T08:00:00+01:00"


@pytest.fixture
def calendar_speaks(office: Office) -> Iterator[None]:
    """The chat model follows its calendar, and it is evening."""
    office.api.put("/admin/v1/clock", {"now": EVENING})
    override = office.api.post("/admin/v1/fleet/overrides", {"model": CHAT, "replicas": "calendar", "reason": "a test"})
    yield
    office.api.delete(f"/admin/v1/fleet/overrides/{override['id']}")
    office.api.delete("/admin/v1/clock")


def hours_of(office: Office, model: str = CHAT) -> dict[str, Any]:
    rows: list[dict[str, Any]] = office.api.get("/admin/v1/fleet/hours")["models"]
    return next(row for row in rows if row["model"] == model)


def listed(office: Office, model: str = CHAT) -> dict[str, Any]:
    answer: dict[str, Any] = office.api.get(f"/v1/models/{model}")
    return answer


def ask(office: Office) -> httpx.Response:
    return httpx.post(
        f"{office.gateway.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {office.customer_key}"},
        json={"model": CHAT, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
        trust_env=False,
    )


def decide(office: Office) -> None:
    """A tick of the fleet sensor, which knows the same moved clock as the gateway."""
    worker = engine_for(office.database.url("worker"))
    with unit_of_work(worker) as session:
        reconcile(session, clock.now())
    worker.dispose()


def test_embedded_models_are_shown_open_by_the_sites_word(office: Office) -> None:
    chat = hours_of(office)
    assert (chat["calendar"], chat["open"], chat["desired"], chat["next_change"]) == ("office", True, 1, None)
    (override,) = chat["overrides"]
    assert (override["created_by"], override["in_force"], override["replicas"]) == ("site", True, 1)
    assert listed(office)["hours"] == "Mon-Fri 08:00-18:00 Europe/Berlin, not on holidays"
    assert listed(office)["opens_at"] is None


@pytest.mark.usefixtures("calendar_speaks", "demo_settings")
class TestAClosedModel:
    def test_operators_see_what_comes_next(self, office: Office) -> None:
        chat = hours_of(office)
        assert (chat["open"], chat["desired"]) == (False, 0)
        assert chat["next_change"]["at"] == "2026-11-04T07:30:00+01:00"
        assert [override["in_force"] for override in chat["overrides"]] == [False, True]

    def test_a_call_is_told_when_it_opens(self, office: Office) -> None:
        decide(office)
        assert eventually(lambda: "opens Wednesday 2026-11-04 08:00 Europe/Berlin" in ask(office).text)
        answer = ask(office)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_asleep")
        assert int(answer.headers["retry-after"]) == 120
        assert "2026-11-04 07:31:00 CET" in answer.json()["error"]["message"]  # an unmeasured warm-up takes a minute

    def test_the_list_of_models_says_so_too(self, office: Office) -> None:
        decide(office)
        assert eventually(lambda: listed(office)["state"] == "cold")
        model = listed(office)
        assert model["opens_at"] == "2026-11-04T08:00:00+01:00"
        assert 13 * 3600 < model["eta_seconds"] <= 13.6 * 3600
        assert listed(office, "smollm2-135m-instruct-fast")["opens_at"] == model["opens_at"]
        assert listed(office, "qwen3-32b")["opens_at"] is None

    def test_at_eight_it_is_open(self, office: Office) -> None:
        office.api.put("/admin/v1/clock", {"now": MORNING})
        assert eventually(lambda: listed(office)["opens_at"] is None)
        assert hours_of(office)["next_change"]["at"] == "2026-11-04T18:00:00+01:00"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, "give either"),
            ({"now": EVENING, "offset_seconds": 1}, "give either"),
            ({"now": "2026-11-03T18:00:00"}, "timezone"),
            ({"now": "9999-12-31T23:59:59Z"}, "ten years"),
            ({"offset_seconds": 1e12}, "less than or equal"),
        ],
    )
    def test_a_clock_that_makes_no_sense(self, office: Office, body: dict[str, object], words: str) -> None:
        with pytest.raises(ApiRefused, match=words):
            office.api.put("/admin/v1/clock", body)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"replicas": "many"}, "replicas"),
            ({"replicas": -1}, "greater than or equal to 0"),
            ({"reason": ""}, "at least 1 character"),
            ({"ends_at": "2020-01-01T00:00:00Z"}, "must end after it begins"),
            ({"starts_at": "2026-11-25T12:00:00"}, "timezone"),
            ({"model": "nosuch"}, "does not exist"),
            ({"model": "qwen3-32b"}, "not deployed"),
        ],
    )
    def test_an_override_that_makes_no_sense(self, office: Office, body: dict[str, object], words: str) -> None:
        with pytest.raises(ApiRefused, match=words):
            office.api.post("/admin/v1/fleet/overrides", {"model": CHAT, "reason": "a test"} | body)

    def test_ending_what_does_not_exist(self, office: Office) -> None:
        for id in ("ovr_0", "ovr_" + "0" * 32):
            with pytest.raises(ApiRefused):
                office.api.delete(f"/admin/v1/fleet/overrides/{id}")

    def test_moving_the_clock_of_an_installation_for_customers(self, office: Office, tmp_path: Path) -> None:
        with GatewayProcess(office.database, tmp_path, settings={"STUDIO_ENV": "production"}) as gateway:
            api = Api(gateway.url, office.admin_key)
            with pytest.raises(ApiRefused, match="only where STUDIO_ENV is demo or test") as refused:
                api.put("/admin/v1/clock", {"offset_seconds": 3600})
            assert refused.value.code == "clock_is_real"
            api.close()


def test_it_is_all_in_the_audit_log(office: Office) -> None:
    with office.database.superuser() as connection:
        actions = connection.execute("select distinct action from audit_log where action ~ '^(clock|fleet)'").fetchall()
    assert {action for (action,) in actions} >= {"clock.set", "clock.reset", "fleet.override", "fleet.override_end"}


def test_the_command_line(office: Office, tmp_path: Path) -> None:
    def studio(*arguments: str) -> str:
        return subprocess.run(
            [str(REPOSITORY / "bin" / "studio"), *arguments],
            env=os.environ | {"STUDIO_GATEWAY_URL": office.gateway.url, "STUDIO_API_KEY": office.admin_key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    made = json.loads(studio("fleet", "override", CHAT, "--replicas", "0", "--reason", "maintenance", "--json"))
    assert made["replicas"] == 0
    assert "maintenance" in studio("fleet", "hours")
    assert studio("fleet", "end-override", made["id"]) == f"{made['id']} is ended.\n"
    assert "Tue 2026-11-03 18:00" in studio("clock", "set", "2026-11-03 18:00")
    assert studio("clock", "reset") == "Opening hours follow real time.\n"

"""What a tenant has used: by day, model, key and tag, and in OpenAI's shapes with the official SDK."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest

from serving.objectives import report
from studio import ids
from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey, create_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, wait_until
from tests.serving.test_http import BODY, assert_envelope, bearer

HOUR = 3600


@pytest.fixture(scope="module")
def keys(house: House, gateway: GatewayProcess) -> tuple[CreatedKey, CreatedKey]:
    """Two keys of a tenant that has used something: six requests, some of them with tags."""
    tenant_id = new_tenant(house.operator, "user")
    with unit_of_work(house.operator) as session:
        one, two = (create_key(session, tenant_id, name, "tests") for name in ("one", "two"))
    with httpx.Client(base_url=gateway.url) as api:
        for key in (one, two):
            wait_until(lambda key=key: api.get("/v1/usage", headers=bearer(key.text)).status_code == 200, seconds=1)

        def ask(key: CreatedKey, tag: str | None, path: str = "/v1/chat/completions", **body: Any) -> None:
            headers = bearer(key.text) | ({} if tag is None else {"x-studio-tag": tag})
            assert api.post(path, json=body, headers=headers).status_code == 200

        ask(one, None, **BODY | {"max_tokens": 2})
        ask(one, "team a", **BODY | {"max_tokens": 3})
        ask(two, "team a", **BODY | {"max_tokens": 4})
        ask(two, "b/2", **BODY | {"model": CHAT_FAST, "max_tokens": 5, "stream": True})
        ask(two, "b/2", "/v1/embeddings", model=EMBEDDING, input="one two three")
        ask(two, None, "/v1/rerank", model=EMBEDDING, query="one", documents=["two"])
    wait_until(lambda: gateway.health()["usage_pending"] == 0)
    return one, two


@pytest.fixture(scope="module")
def stored_day(house: House, keys: tuple[CreatedKey, CreatedKey]) -> UUID:
    """A measured day of the tenant, and one of another's; the event of the first."""
    event = ids.uuid7()
    with house.database.superuser() as connection:
        connection.execute(
            "insert into storage_days (tenant_id, day, time_zone, file_byte_seconds, result_byte_seconds,"
            " adapter_byte_seconds, kilobyte_days, is_sold, event_id)"
            " select id, '2026-11-10', 'Europe/Berlin', 172800000, 0, 86400001, 3, true, %s from tenants",
            (event,),
        )
        connection.execute(
            "insert into gpu_days (tenant_id, day, time_zone, card_microseconds, micro_hours, event_id)"
            " select id, '2026-11-10', 'Europe/Berlin', 7200000000, 2000000, %s from tenants",
            (event,),
        )
    return event


@pytest.fixture
def own(gateway: GatewayProcess, keys: tuple[CreatedKey, CreatedKey]) -> Iterator[httpx.Client]:
    """HTTP as that tenant."""
    with httpx.Client(base_url=gateway.url, headers=bearer(keys[0].text)) as client:
        yield client


def test_a_months_objectives_are_shown_to_every_tenant(house: House, own: httpx.Client) -> None:
    assert own.get("/v1/slo").json() == {"object": "list", "data": []}
    assert_envelope(own.get("/v1/slo/2026-10"), 404, "not_found")
    with house.database.superuser() as connection:
        connection.execute(
            "insert into slo_figures (month, objective, subject, value, target, is_met, samples) values"
            " ('2026-10-01', 'availability', %s, 0.9972, 0.995, true, 792000)",
            (CHAT,),
        )
    assert own.get("/v1/slo").json()["data"] == ["2026-10"]
    told = own.get("/v1/slo/2026-10").json()
    assert [(one["objective"], one["subject"], one["value"]) for one in told["figures"]] == [
        ("availability", CHAT, "0.9972")
    ]
    assert (told["credited"], told["is_final"]) == ([], True)
    assert_envelope(own.get("/v1/slo/2026-13"), 400, "invalid_request")


def test_what_was_credited_for_missed_targets_is_seen_by_its_own_tenant_and_by_operators(
    house: House, own: httpx.Client, gateway: GatewayProcess
) -> None:
    with house.database.superuser() as connection:
        connection.execute(
            "insert into slo_figures (month, objective, subject, samples) values ('2026-09-01', 'prewarm', %s, 0)",
            (CHAT,),
        )
        connection.execute("set session_replication_role = replica")  # the day and its seal are left out
        connection.execute(
            "insert into rated_lines (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis,"
            " legal_entity_id, currency, tokens, per_million, amount, code_version)"
            " select '2026-09-07', t.id, 1, %s, f.unit, b.id, '2026-09-07', 'missed_target', 'xpulink-de', 'EUR',"
            " 1000000, b.per_million, b.per_million, 'tests'"
            " from tenants t, prices f join prices b using (unit, currency)"
            " where f.variant_id = %s and b.variant_id = %s and (f.unit, f.currency) = ('completion', 'EUR')"
            " and f.valid_until is null and b.valid_until is null",
            (CHAT_FAST, CHAT_FAST, CHAT),
        )
    (of_user,) = own.get("/v1/slo/2026-09").json()["credited"]
    others = httpx.get(f"{gateway.url}/v1/slo/2026-09", headers=bearer(house.key.text), trust_env=False)
    (of_acme,) = others.json()["credited"]
    assert (of_user["tenant"], of_acme["tenant"]) == ("user", "acme")
    assert (of_user["model"], of_user["tokens"]) == (CHAT_FAST, 1_000_000)
    assert Decimal(of_user["credited"]) > 0
    with unit_of_work(house.operator) as session:
        assert [one.tenant for one in report.credited(session, date(2026, 9, 1))] == ["acme", "user"]


@pytest.fixture
def admin(gateway: GatewayProcess, keys: tuple[CreatedKey, CreatedKey]) -> Iterator[Any]:
    """The official SDK's own part for it."""
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", admin_api_key=keys[0].text, max_retries=0
    ) as client:
        yield client.admin.organization.usage


def test_storage_is_shown_to_its_own_tenant_by_day(house: House, own: httpx.Client, stored_day: UUID) -> None:
    report = own.get("/v1/usage/storage", params={"start": "2026-11-01", "end": "2026-12-01"}).json()
    assert report["data"] == [
        {
            "day": "2026-11-10", "time_zone": "Europe/Berlin", "file_byte_seconds": "172800000",
            "result_byte_seconds": "0", "adapter_byte_seconds": "86400001", "kilobyte_days": 3, "is_sold": True,
            "receipt": f"req_{stored_day.hex}",
        }
    ]  # fmt: skip
    assert_envelope(own.get("/v1/usage/storage?start=2026-02-01&end=2026-01-01"), 400, "invalid_request")
    hours = own.get("/v1/usage/gpu-hours", params={"start": "2026-11-01", "end": "2026-12-01"}).json()
    receipt = f"req_{stored_day.hex}"
    assert hours["data"] == [
        {"day": "2026-11-10", "time_zone": "Europe/Berlin", "micro_hours": 2_000_000, "receipt": receipt}
    ]
    assert_envelope(own.get("/v1/usage/gpu-hours?start=2026-02-01&end=2026-01-01"), 400, "invalid_request")


class TestOwnUsage:
    def test_it_is_grouped_by_day_and_model_unless_asked_otherwise(self, own: httpx.Client) -> None:
        report = own.get("/v1/usage").json()
        assert report["group_by"] == ["day", "model"]
        found = [(row["model"], row["requests"], row["completion_tokens"], row["key"]) for row in report["data"]]
        assert found == [(EMBEDDING, 2, 0, None), (CHAT, 3, 9, None), (CHAT_FAST, 1, 5, None)]
        assert {row["day"] for row in report["data"]} == {datetime.now(UTC).date().isoformat()}

    def test_by_tag_and_key(self, own: httpx.Client, keys: tuple[CreatedKey, CreatedKey]) -> None:
        one, two = (ids.to_wire(ids.API_KEY, key.id) for key in keys)
        rows = own.get("/v1/usage", params={"group_by": "tag,key"}).json()["data"]
        assert {(row["key"], row["tag"]): (row["requests"], row["completion_tokens"]) for row in rows} == {
            (one, None): (1, 2),
            (one, "team a"): (1, 3),
            (two, "team a"): (1, 4),
            (two, "b/2"): (2, 5),
            (two, None): (1, 0),
        }

    def test_all_of_it_in_one_row(self, own: httpx.Client) -> None:
        (row,) = own.get("/v1/usage", params={"group_by": ""}).json()["data"]
        assert (row["requests"], row["completion_tokens"], row["day"], row["model"]) == (6, 14, None, None)

    def test_only_some_of_it(self, own: httpx.Client, keys: tuple[CreatedKey, CreatedKey]) -> None:
        two = ids.to_wire(ids.API_KEY, keys[1].id)

        def requests(**filters: str) -> int:
            (row,) = own.get("/v1/usage", params={"group_by": "", **filters}).json()["data"]
            return int(row["requests"])

        assert [requests(model=CHAT), requests(tag="b/2"), requests(key=two), requests(key=two, model=CHAT)] == [
            3, 2, 4, 1,
        ]  # fmt: skip
        assert requests(tag="of nobody") == 0

    def test_what_cannot_be_grouped_by_or_found_is_400(self, own: httpx.Client) -> None:
        for params in ({"group_by": "day,colour"}, {"key": "xpu_1"}, {"tag": "\0"}, {"model": "\0"}):
            assert_envelope(own.get("/v1/usage", params=params), 400, "invalid_request")

    @pytest.mark.parametrize("tag", [b"x" * 65, b"caf\xe9", b"a\tb"])
    def test_a_tag_that_is_too_long_or_not_printable_is_400(self, own: httpx.Client, tag: bytes) -> None:
        refused = own.post("/v1/chat/completions", json=BODY, headers={b"x-studio-tag": tag})
        assert_envelope(refused, 400, "invalid_request")
        assert refused.json()["error"]["param"] == "x-studio-tag"


class TestOrganization:
    def test_completions_by_model_and_key(self, admin: Any, keys: tuple[CreatedKey, CreatedKey]) -> None:
        page = admin.completions(start_time=_this_hour() - HOUR, bucket_width="1h", group_by=["model", "api_key_id"])
        assert (page.object, page.has_more, page.next_page) == ("page", False, None)
        assert [bucket.end_time - bucket.start_time for bucket in page.data] == [HOUR] * len(page.data)
        results = [result for bucket in page.data for result in bucket.results]
        assert {result.object for result in results} == {"organization.usage.completions.result"}
        one, two = (ids.to_wire(ids.API_KEY, key.id) for key in keys)
        assert {(result.model, result.api_key_id): result.output_tokens for result in results} == {
            (CHAT, one): 5,
            (CHAT, two): 4,
            (CHAT_FAST, two): 5,
        }
        for result in results:
            assert result.input_tokens == result.input_cached_tokens + result.input_uncached_tokens
            assert (result.project_id, result.user_id, result.batch) == (None, None, None)

    def test_completions_in_one_number_a_day(self, admin: Any) -> None:
        results = [
            result for bucket in admin.completions(start_time=_this_hour() - HOUR).data for result in bucket.results
        ]
        assert sum(result.num_model_requests for result in results) == 4
        assert {(result.model, result.api_key_id, result.service_tier) for result in results} == {(None, None, None)}

    def test_filters_and_tiers(self, admin: Any, keys: tuple[CreatedKey, CreatedKey]) -> None:
        since = _this_hour() - HOUR

        def total(**filters: Any) -> int:
            page = admin.completions(start_time=since, **filters)
            return sum(result.num_model_requests for bucket in page.data for result in bucket.results)

        assert total(models=[CHAT]) == 3
        assert total(models=[CHAT, CHAT_FAST], api_key_ids=[ids.to_wire(ids.API_KEY, keys[1].id)]) == 2
        assert (total(batch=True), total(batch=False)) == (0, 4)
        page = admin.completions(start_time=since, group_by=["service_tier", "batch", "project_id"])
        found = {(one.service_tier, one.batch) for bucket in page.data for one in bucket.results}
        assert found == {("base", False), ("fast", False)}

    def test_embeddings_include_rerank(self, admin: Any) -> None:
        page = admin.embeddings(start_time=_this_hour() - HOUR, group_by=["model"])
        results = [result for bucket in page.data for result in bucket.results]
        assert sum(result.input_tokens for result in results) == 5
        assert {(result.object, result.model) for result in results} == {
            ("organization.usage.embeddings.result", EMBEDDING)
        }

    def test_pages_follow_each_other_without_a_gap(self, admin: Any) -> None:
        now, page_of = int(time.time()), None
        buckets: list[Any] = []
        while True:
            more: dict[str, str] = {} if page_of is None else {"page": page_of}
            page = admin.completions(start_time=now - 150 * 60, end_time=now + 1, bucket_width="1m", limit=60, **more)
            buckets += page.data
            page_of = page.next_page
            assert page.has_more is (page_of is not None)
            if page_of is None:
                break
            assert len(page.data) == 60
        assert [one.end_time for one in buckets[:-1]] == [one.start_time for one in buckets[1:]]
        assert buckets[0].start_time <= now - 150 * 60 < buckets[0].end_time
        assert buckets[-1].start_time <= now < buckets[-1].end_time
        assert sum(result.num_model_requests for bucket in buckets for result in bucket.results) == 4

    def test_what_is_not_in_the_span_is_not_counted(self, admin: Any) -> None:
        now = int(time.time())
        page = admin.completions(start_time=now - 7200, end_time=now - 3600)
        assert [bucket.results for bucket in page.data] in ([[]], [[], []])

    @pytest.mark.parametrize(
        ("path", "query", "param"),
        [
            ("usage/completions", "", "start_time"),
            ("usage/completions", "start_time=soon", "start_time"),
            ("usage/completions", "start_time=99999999999999", "start_time"),
            ("usage/completions", "start_time=4000000000", "start_time"),
            ("usage/completions", "start_time=1&bucket_width=1w", "bucket_width"),
            ("usage/completions", "start_time=1&limit=32", "limit"),
            ("usage/completions", "start_time=1&limit=0", "limit"),
            ("usage/completions", "start_time=1&page=2", "page"),
            ("usage/completions", "start_time=1&group_by=colour", "group_by"),
            ("usage/completions", "start_time=1&project_ids[]=proj_1", "project_ids"),
            ("usage/completions", "start_time=1&api_key_ids=mine", "api_key_ids"),
            ("usage/completions", "start_time=1&models=%00", "models"),
            ("usage/embeddings", "start_time=1&group_by[]=batch", "group_by"),
            ("costs", "start_time=1&bucket_width=1h", "bucket_width"),
            ("costs", "start_time=1&api_key_ids[]=key_1", "api_key_ids"),
            ("costs", "start_time=1&group_by[]=api_key_id", "group_by"),
            ("costs", "start_time=1&limit=181", "limit"),
        ],
    )
    def test_a_wrong_question_names_its_field(self, own: httpx.Client, path: str, query: str, param: str) -> None:
        refused = own.get(f"/v1/organization/{path}?{query}")
        assert_envelope(refused, 400, "invalid_request")
        assert refused.json()["error"]["param"] == param

    def test_another_tenant_sees_nothing_of_it(self, api: httpx.Client, keys: tuple[CreatedKey, CreatedKey]) -> None:
        key = ids.to_wire(ids.API_KEY, keys[0].id)
        page = api.get("/v1/organization/usage/completions", params={"start_time": 1, "api_key_ids[]": key})
        assert all(bucket["results"] == [] for bucket in page.json()["data"])


@pytest.mark.parametrize("path", ["usage/completions", "usage/embeddings", "costs"])
def test_only_keys_for_usage_may_look(stranger: httpx.Client, house: House, gateway: GatewayProcess, path: str) -> None:
    assert_envelope(stranger.get(f"/v1/organization/{path}"), 401, "invalid_api_key")
    with unit_of_work(house.operator) as session:
        key = create_key(session, house.tenant_id, "no usage", "tests", scopes=["inference"])
    wait_until(lambda: stranger.get("/v1/models", headers=bearer(key.text)).status_code == 200, seconds=1)
    answer = stranger.get(f"/v1/organization/{path}?start_time=1", headers=bearer(key.text))
    assert_envelope(answer, 403, "permission_denied")


def _this_hour() -> int:
    return int(time.time()) // HOUR * HOUR

"""`/admin/v1` through its front door: who may not enter, and what operators do there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx
import psycopg
import pytest

from local.api import ApiRefused
from studio import clock
from tests.admin.conftest import Office

CHAT = "smollm2-135m-instruct"
ROUTES = [
    ("GET", "/admin/v1/tenants"),
    ("GET", "/admin/v1/slo"),
    ("GET", "/admin/v1/slo/2026-10"),
    ("POST", "/admin/v1/tenants"),
    ("GET", "/admin/v1/tenants/acme"),
    ("POST", "/admin/v1/tenants/acme/terms"),
    ("POST", "/admin/v1/tenants/acme/close"),
    ("POST", "/admin/v1/tenants/acme/reopen"),
    ("POST", "/admin/v1/tenants/acme/keys"),
    ("GET", "/admin/v1/tenants/acme/keys"),
    ("DELETE", "/admin/v1/keys/key_0"),
    ("GET", "/admin/v1/users"),
    ("POST", "/admin/v1/users/usr_0/memberships"),
    ("DELETE", "/admin/v1/memberships/mbr_0"),
    ("DELETE", "/admin/v1/users/usr_0/sessions"),
    ("POST", "/admin/v1/signin-links"),
    ("GET", "/admin/v1/tenants/acme/limits"),
    ("PUT", "/admin/v1/tenants/acme/limits"),
    ("DELETE", "/admin/v1/tenants/acme/limits"),
    ("GET", "/admin/v1/tenants/acme/budgets"),
    ("PUT", "/admin/v1/tenants/acme/budgets"),
    ("DELETE", "/admin/v1/tenants/acme/budgets/prepaid"),
    ("POST", f"/admin/v1/models/{CHAT}/weights/uploads"),
    ("POST", f"/admin/v1/models/{CHAT}/weights/publish"),
    ("GET", "/admin/v1/fleet"),
    ("POST", "/admin/v1/fleet/replicas"),
    ("DELETE", "/admin/v1/fleet/replicas/rep_0"),
    ("GET", "/admin/v1/fleet/hours"),
    ("POST", "/admin/v1/fleet/overrides"),
    ("DELETE", "/admin/v1/fleet/overrides/ovr_0"),
    ("PUT", "/admin/v1/clock"),
    ("DELETE", "/admin/v1/clock"),
    ("POST", "/admin/v1/usage/windows/2026-11-25/seals"),
    ("GET", "/admin/v1/usage/windows"),
    ("GET", "/admin/v1/usage/quarantine"),
    ("POST", "/admin/v1/usage/quarantine/00000000-0000-0000-0000-000000000000/decision"),
    ("POST", "/admin/v1/invoices/orders"),
    ("GET", "/admin/v1/invoices/orders/00000000-0000-0000-0000-000000000000"),
    ("GET", "/admin/v1/invoices"),
    ("GET", "/admin/v1/invoices/inv_0"),
    ("POST", "/admin/v1/invoices/inv_0/approvals"),
    ("GET", "/admin/v1/invoices/open"),
    ("POST", "/admin/v1/invoices/inv_0/reviews"),
    ("POST", "/admin/v1/corrections/cor_0/reviews"),
    ("POST", "/admin/v1/corrections/cor_0/void"),
    ("POST", "/admin/v1/invoices/inv_0/void"),
    ("POST", "/admin/v1/invoices/inv_0/again"),
    ("GET", "/admin/v1/holds"),
    ("POST", "/admin/v1/tenants/acme/holds"),
    ("POST", "/admin/v1/holds/hld_0/release"),
    ("POST", "/admin/v1/tenants/acme/credit-requests"),
    ("POST", "/admin/v1/credit-requests/crq_0/approvals"),
    ("POST", "/admin/v1/credit-requests/crq_0/declines"),
    ("GET", "/admin/v1/invoices/inv_0/document"),
    ("POST", "/admin/v1/invoices/inv_0/corrections"),
    ("GET", "/admin/v1/invoices/inv_0/corrections"),
    ("GET", "/admin/v1/corrections/cor_0"),
    ("POST", "/admin/v1/corrections/cor_0/approvals"),
    ("GET", "/admin/v1/corrections/cor_0/document"),
    ("GET", "/admin/v1/tenants/acme/credits"),
    ("POST", "/admin/v1/tenants/acme/credits"),
    ("GET", "/admin/v1/tenants/acme/prices"),
    ("POST", "/admin/v1/tenants/acme/prices"),
    ("POST", "/admin/v1/tenants/acme/prices/prc_0/end"),
    ("GET", "/admin/v1/tenants/acme/card-reservations"),
    ("POST", "/admin/v1/tenants/acme/card-reservations"),
    ("POST", "/admin/v1/tenants/acme/card-reservations/rsv_0/end"),
    ("GET", "/admin/v1/tenants/acme/commitments"),
    ("POST", "/admin/v1/tenants/acme/commitments"),
    ("POST", "/admin/v1/tenants/acme/commitments/cmt_0/end"),
    ("GET", "/admin/v1/rerates/2026-11"),
    ("POST", "/admin/v1/rerates/2026-11/corrections"),
    ("GET", "/admin/v1/ledger/balances"),
    ("GET", "/admin/v1/ledger/transactions"),
    ("GET", "/admin/v1/ledger/verification"),
    ("POST", "/admin/v1/payments"),
    ("POST", "/admin/v1/payments/imports"),
    ("GET", "/admin/v1/payments"),
    ("POST", "/admin/v1/payments/pay_0/matches"),
    ("POST", "/admin/v1/payments/pay_0/unmatch"),
    ("POST", "/admin/v1/payments/pay_0/refunds"),
    ("POST", "/admin/v1/invoices/inv_0/payouts"),
    ("GET", "/admin/v1/receivables"),
    ("GET", "/admin/v1/receivables/ageing"),
    ("GET", "/admin/v1/receivables/reminders"),
    ("POST", "/admin/v1/invoices/inv_0/write-offs"),
    ("GET", "/admin/v1/write-offs"),
    ("POST", "/admin/v1/write-offs/wof_0/approval"),
    ("POST", "/admin/v1/write-offs/wof_0/rejection"),
]


@pytest.fixture(scope="module")
def office(shared_office: Office) -> Office:
    return shared_office


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_strangers_stay_outside(office: Office, method: str, path: str) -> None:
    with httpx.Client(base_url=office.gateway.url, trust_env=False) as client:
        nobody = client.request(method, path)
        customer = client.request(method, path, headers={"authorization": f"Bearer {office.customer_key}"})
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (customer.status_code, customer.json()["error"]["code"]) == (403, "permission_denied")


def test_every_operators_route_is_in_the_list_above(office: Office) -> None:
    document = httpx.get(f"{office.gateway.url}/openapi.json", trust_env=False).json()
    served = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        if path.startswith("/admin/")
        for method in methods
    }
    assert len(served) == len(ROUTES), sorted(served)


class TestKeys:
    def test_a_key_works_at_once_and_is_refused_within_a_second_of_its_revocation(self, office: Office) -> None:
        created = office.api.post("/admin/v1/tenants/acme/keys", {"name": "short-lived"})
        assert eventually(lambda: office.status_with(created["key"], "/v1/models") == 200)
        office.api.delete(f"/admin/v1/keys/{created['id']}")
        assert eventually(lambda: office.status_with(created["key"], "/v1/models") == 401)

    def test_the_command_makes_one_with_a_cache_of_its_own(self, office: Office) -> None:
        made = json.loads(office.studio("key", "create", "--tenant", "acme", "--own-cache", "--json").stdout)
        other = office.api.post("/admin/v1/tenants/acme/keys", {"name": "shares"})
        own = {key["id"]: key["own_cache"] for key in office.api.get("/admin/v1/tenants/acme/keys")}
        assert (own[made["id"]], own[other["id"]]) == (True, False)

    def test_its_text_is_nowhere_but_in_the_first_answer(self, office: Office) -> None:
        created = office.api.post("/admin/v1/tenants/acme/keys", {"name": "secret"})
        listed = office.api.get("/admin/v1/tenants/acme/keys")
        assert created["prefix"] in [key["prefix"] for key in listed]
        assert created["key"] not in str(listed)
        with office.database.superuser() as connection:
            rows = connection.execute("select * from api_keys").fetchall()
            audited = connection.execute("select * from audit_log").fetchall()
        assert created["key"] not in str(rows) + str(audited)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"scopes": ["root"]}, "scopes are"),
            ({"expires_in_seconds": 0}, "greater than 0"),
            ({"expires_in_seconds": 10**12}, "less than or equal to"),
            ({"requests_per_second": -1}, "greater than 0"),
            ({"colour": "red"}, "Extra inputs"),
        ],
    )
    def test_a_key_that_makes_no_sense_is_refused(self, office: Office, body: dict[str, object], words: str) -> None:
        with pytest.raises(ApiRefused, match=words):
            office.api.post("/admin/v1/tenants/acme/keys", body)

    def test_an_unknown_tenant_is_named(self, office: Office) -> None:
        with pytest.raises(ApiRefused, match="there is no tenant 'nobody'"):
            office.api.post("/admin/v1/tenants/nobody/keys", {})


GLOBEX: dict[str, object] = {
    "slug": "globex",
    "name": "Globex",
    "legal_entity": "xpulink-de",
    "currency": "EUR",
    "buyer": {"name": "Globex", "country": "DE", "postcode": "10115", "city": "Berlin", "email": "ap@globex.example"},
}


class TestTenants:
    def test_a_tenant_exists_once_and_is_audited(self, office: Office) -> None:
        office.api.post("/admin/v1/tenants", GLOBEX)
        with pytest.raises(ApiRefused, match="already"):
            office.api.post("/admin/v1/tenants", GLOBEX)
        with office.database.superuser() as connection:
            [(action, actor)] = connection.execute(
                "select action, actor from audit_log where subject = 'globex'"
            ).fetchall()
        assert (action, actor) == ("tenant.create", office.admin_key[:12])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"currency": "RMB"}, "write CNY"),
            ({"time_zone": "Europe/Atlantis"}, "no time zone named"),
            ({"legal_entity": "acme-bank"}, "no legal entity"),
            ({"slug": "No Spaces"}, "is no tenant name"),
            ({"buyer": {"name": "G", "country": "DE", "postcode": "1", "email": "a@g.example"}}, "needs a town"),
            ({"buyer": {"name": "G", "country": "DE", "city": "Ulm"}}, r"postcode and its electronic address.*--email"),
            ({"buyer": {"name": "G", "country": "DE", "city": "89073 Ulm", "vat_id": "DE12"}}, "no VAT id of a member"),
            ({"buyer": {"name": "G", "country": "FR", "city": "Lyon"}}, "reverse charge, which needs"),
        ],
    )
    def test_bad_billing_is_refused_and_leaves_nothing(
        self, office: Office, changes: dict[str, object], words: str
    ) -> None:
        with pytest.raises(ApiRefused, match=words):
            office.api.post("/admin/v1/tenants", GLOBEX | {"slug": "initech"} | changes)
        assert "initech" not in [tenant["slug"] for tenant in office.api.get("/admin/v1/tenants")]


def test_sealing_an_empty_window_says_so(office: Office) -> None:
    body = {"tenant": "acme", "reason": "test", "cutoff": "2026-01-02T00:00:00+00:00"}
    with pytest.raises(ApiRefused, match="no event that is not sealed"):
        office.api.post("/admin/v1/usage/windows/2026-01-01/seals", body)


def test_finance_sees_what_is_in_quarantine_and_decides_about_it(office: Office) -> None:
    payload = '{"model_id": "m", "prompt_tokens": -1, "completion_tokens": 5}'
    with office.database.superuser() as connection:
        connection.execute(
            "insert into quarantine (reason, tenant_id, payload) select 'tokens or reasons out of range', id, %s"
            " from tenants where slug = 'acme'",
            [payload],
        )
    (entry,) = json.loads(office.studio("usage", "quarantine", "list", "--tenant", "acme", "--json").stdout)
    assert (entry["reason"], entry["tokens"], entry["decision"]) == ("tokens or reasons out of range", 4, None)
    refused = office.studio("usage", "quarantine", "release", entry["id"], "--reason", "why not")
    assert (refused.returncode, "can only be discarded" in refused.stderr) == (1, True)
    assert office.studio("usage", "quarantine", "discard", entry["id"], "--reason", "a broken build").returncode == 0
    assert office.api.get("/admin/v1/usage/quarantine", tenant="acme") == []
    (settled,) = office.api.get("/admin/v1/usage/quarantine", tenant="acme", settled="true")
    assert (settled["decision"], settled["decision_reason"]) == ("discarded", "a broken build")


def test_what_was_audited_cannot_be_changed(office: Office) -> None:
    with (
        psycopg.connect(office.database.url("operator").replace("+psycopg", "")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("update audit_log set actor = 'somebody else'")


def ask(office: Office) -> int:
    return httpx.post(
        f"{office.gateway.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {office.customer_key}"},
        json={"model": CHAT, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
        trust_env=False,
    ).status_code


MOVER = {
    "name": "Mover GmbH", "country": "DE", "street": "Weg 1", "postcode": "10115", "city": "Ulm", "email": "a@m.de",
}  # fmt: skip


class TestTerms:
    """How acme is billed, and its end: each through the command line that finance types."""

    def test_a_change_is_shown_and_told_in_the_audit_log(self, office: Office) -> None:
        office.api.post("/admin/v1/tenants", {
            "slug": "mover", "name": "Mover GmbH", "legal_entity": "xpulink-de", "currency": "EUR",
            "buyer": MOVER,
        })  # fmt: skip
        change = ("tenant", "terms", "mover", "--reason", "moved", "--city", "Berlin", "--vat-id", "DE 136 695 976")
        moved_to = {"city": "Berlin", "vat_id": "DE136695976"}
        changed = office.studio(*change, "--from", "2030-05-07", "--street", "", "--payment-days", "30")
        assert changed.returncode == 0, changed.stderr
        shown = office.api.get("/admin/v1/tenants/mover")
        assert [(row["when"], row["payment_days"], row["buyer"]) for row in shown["terms"]] == [
            ("present", None, MOVER),
            ("coming", 30, {name: text for name, text in MOVER.items() if name != "street"} | moved_to),
        ]
        assert "30 days; Mover GmbH, 10115, Berlin, DE, a@m.de, DE136695976" in (
            office.studio("tenant", "show", "mover").stdout
        )
        body = {"valid_from": "2030-06-07", "reason": "x"}
        with pytest.raises(ApiRefused, match="write CNY"):
            office.api.post("/admin/v1/tenants/mover/terms", body | {"currency": "RMB"})
        moved = {"legal_entity": "xpulink-cn", "currency": "CNY", "buyer": {"country": "CN", "vat_id": None}}
        with pytest.raises(ApiRefused, match="a month has one seller and one currency"):
            office.api.post("/admin/v1/tenants/mover/terms", body | moved)
        with office.database.superuser() as connection:
            audited = connection.execute(
                "select actor, details ->> 'reason', details -> 'buyer' ->> 'city' from audit_log"
                " where action = 'tenant.terms' and subject = 'mover'"
            ).fetchall()
        assert audited == [(office.admin_key[:12], "moved", "Berlin")]

    def test_a_closed_tenant_is_refused_at_once_and_finance_still_finds_it(self, office: Office) -> None:
        office.api.post("/admin/v1/tenants", {
            "slug": "leaver", "name": "Leaver GmbH", "legal_entity": "xpulink-de", "currency": "EUR",
            "buyer": {"name": "Leaver GmbH", "country": "DE", "city": "89073 Ulm", "email": "a@l.example"},
        })  # fmt: skip
        key = office.api.post("/admin/v1/tenants/leaver/keys", {"name": "one"})["key"]
        assert eventually(lambda: office.status_with(key, "/v1/models") == 200)
        committed = office.api.post("/admin/v1/tenants/leaver/commitments", {
            "amount": "10.00", "valid_from": f"{clock.now():%Y-%m}", "reason": "contract",
        })  # fmt: skip
        with pytest.raises(ApiRefused, match=rf"studio price end {committed['id']} --tenant leaver"):
            office.api.post("/admin/v1/tenants/leaver/close")
        next_month = clock.next_month(clock.month_start(clock.now().date()))
        office.api.post(
            f"/admin/v1/tenants/leaver/commitments/{committed['id']}/end", {"valid_until": f"{next_month:%Y-%m}"}
        )
        jobs = unfinished_jobs(office, "leaver")
        closed = office.studio("tenant", "close", "leaver")
        assert "Ended: keys 1, batches 1, fine-tunes 1." in " ".join(closed.stdout.split())
        assert eventually(lambda: office.status_with(key, "/v1/models") == 401)
        assert jobs() == ("cancelling", True)
        again = office.api.post("/admin/v1/tenants/leaver/close")
        assert (again["keys"], again["batches"], again["fine_tunes"]) == (0, 0, 0)
        assert "leaver" not in [row["slug"] for row in office.api.get("/admin/v1/tenants")]
        with pytest.raises(ApiRefused, match="was closed on"):
            office.api.post("/admin/v1/tenants/leaver/keys", {"name": "two"})
        ordered = office.api.post("/admin/v1/invoices/orders", {
            "tenant": "leaver", "month": f"{clock.now():%Y-%m}", "reason": "the last one",
        })  # fmt: skip
        assert ordered["answer"] is None
        held = office.api.post("/admin/v1/tenants/leaver/holds", {"reason": "asks back"})
        assert office.api.get("/admin/v1/holds", tenant="leaver") == [held]
        office.api.post("/admin/v1/tenants/leaver/credits", {"amount": "5.00", "reason": "x", "kind": "promotion"})
        office.api.post("/admin/v1/tenants/leaver/reopen")
        assert office.api.get("/admin/v1/tenants/leaver")["closed_at"] is None
        assert office.status_with(key, "/v1/models") == 401
        with office.database.superuser() as connection:
            connection.execute("update tenants set is_internal = true where slug = 'leaver'")
        with pytest.raises(ApiRefused, match="one of our own"):
            office.api.post("/admin/v1/tenants/leaver/close")


def unfinished_jobs(office: Office, slug: str) -> Callable[[], tuple[str, bool]]:
    """A batch and a fine-tune that run; what has become of them."""
    with office.database.superuser() as connection:
        connection.execute(
            """
            with t as (select id from tenants where slug = %s), f as (
                insert into files (tenant_id, filename, purpose, size_bytes, sha256, object_key)
                select id, 'x', 'batch', 1, '', 'x' from t returning id, tenant_id
            ), b as (
                insert into batches
                    (tenant_id, api_key_id, endpoint, completion_window, input_file_id, state, expires_at)
                select tenant_id, uuidv7(), '/v1/chat/completions', '24h', id, 'in_progress', now() from f
            )
            insert into fine_tuning_jobs
                (tenant_id, api_key_id, variant_id, training_file_id, seed, hyperparameters, state)
            select tenant_id, uuidv7(), %s, id, 1, '{}', 'running' from f
            """,
            (slug, CHAT),
        )

    def states() -> tuple[str, bool]:
        with office.database.superuser() as connection:
            row = connection.execute(
                "select b.state, j.cancel_requested_at is not null from batches b"
                " join fine_tuning_jobs j using (tenant_id) join tenants t on t.id = tenant_id where t.slug = %s",
                (slug,),
            ).fetchone()
        assert row is not None
        return row

    return states


def eventually(check: Callable[[], bool], seconds: float = 1.0) -> bool:
    """A notification takes milliseconds; the promise is a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


def test_the_monthly_report_is_for_operators_and_says_what_was_not_measured(office: Office) -> None:
    with pytest.raises(ApiRefused, match="no report of 2026-10 was computed yet"):
        office.api.get("/admin/v1/slo/2026-10")
    with office.database.superuser() as connection:
        connection.execute(
            "insert into slo_figures (month, objective, subject, value, target, is_met, samples) values"
            " ('2026-10-01', 'availability', 'qwen3-32b', 0.9972, 0.995, true, 792000),"
            " ('2026-10-01', 'usage_error', 'qwen3-32b', null, 0.02, null, 0)"
        )
    assert office.api.get("/admin/v1/slo") == {"months": ["2026-10"]}
    told = office.api.get("/admin/v1/slo/2026-10")
    figures = [(one["objective"], one["value"], one["target"], one["is_met"]) for one in told["figures"]]
    assert (told["credited"], told["is_final"]) == ([], True)  # computed now, long after that month
    assert figures == [("availability", "0.9972", "0.995", True), ("usage_error", None, "0.02", None)]
    with pytest.raises(ApiRefused, match="pattern"):
        office.api.get("/admin/v1/slo/2026-13")
    assert office.status_with(office.customer_key, "/admin/v1/slo/2026-10") == 403

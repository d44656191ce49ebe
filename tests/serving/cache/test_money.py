"""What is reused costs its own price: within budgets, against the engines' counters, and on the invoice."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from sqlalchemy import insert, select

from billing import draft, invoice_requests, rated_lines, reconcile, usage, windows
from billing.windows import UsageNotComplete
from local.demo.auditor import Auditor
from studio import clock
from studio.budgets import put_budget
from studio.db.fleet import EngineCounters
from studio.db.invoices import Invoice, InvoiceLine
from studio.db.sessions import engine_for, unit_of_work
from tests.serving.cache.conftest import Customer, Shop, outcome
from tests.serving.gateway_process import CHAT, EMBEDDING, wait_until

# Of `catalog/models`, per token in EUR.
PROMPT, CACHED, COMPLETION, REUSED = map(Decimal, ("0.0001", "0.00005", "0.0002", "0.00001"))
EMBEDDED, REUSED_EMBEDDED = Decimal("0.00005"), Decimal("0.000005")


def budget_of(customer: Customer, amount: str) -> None:
    """A prepaid budget of the key, which the gateway knows."""
    with unit_of_work(customer.shop.house.operator) as session:
        put_budget(session, customer.tenant_id, customer.key_id, "prepaid", Decimal(amount), "tests")
    wait_until(lambda: customer.client.get("/v1/budgets").json()["data"], seconds=5)


class TestBudgets:
    def test_a_hit_needs_no_more_than_its_price(self, shop: Shop, customer: Customer) -> None:
        """What an engine would be paid is not there, and neither reserved."""
        poor = shop.customer(customer.tenant_id)
        customer.ask(max_tokens=100)
        budget_of(poor, str(103 * REUSED * 2))
        wait_until(lambda: poor.ask("another").status_code == 429, seconds=5)
        assert outcome(poor.ask(max_tokens=100)) == "hit"
        assert outcome(poor.ask(max_tokens=100)) == "hit"
        refused = poor.ask(max_tokens=100)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "credit_balance_exhausted")

    def test_what_was_spent_is_settled_by_events_at_the_price_of_each(self, shop: Shop, customer: Customer) -> None:
        budget_of(customer, "1")
        customer.ask()
        customer.ask()
        customer.embed(["one", "two words"])
        customer.embed(["one", "two words", "and three words"])
        customer.embed("one")
        shop.gateway.stop()
        shop.gateway.start()
        with shop.house.database.superuser() as connection:
            spent = connection.execute(
                "select a.spent from budget_accounts a join budgets b on b.id = a.budget_id where b.api_key_id = %s",
                [customer.key_id],
            ).fetchall()
        chat = 2 * PROMPT + CACHED + 5 * COMPLETION + 8 * REUSED
        vectors = 3 * EMBEDDED + 3 * REUSED_EMBEDDED + 3 * EMBEDDED + REUSED_EMBEDDED
        assert spent == [(chat + vectors,)]
        wait_until(lambda: shop.gateway.health()["cache"] == "on", seconds=10)

    def test_what_money_may_have_cut_is_kept_for_nobody(self, shop: Shop, customer: Customer) -> None:
        budget_of(customer, "0.06")
        wait_until(lambda: customer.ask(cache=None, max_tokens=1000).status_code == 200, seconds=5)
        assert shop.keys_in_valkey(customer.tenant_id) == []
        rich = shop.customer(customer.tenant_id)
        assert outcome(rich.ask(max_tokens=1000)) == "miss"


def test_hits_are_no_engines_tokens_and_reach_the_invoice(shop: Shop, customer: Customer) -> None:
    customer.ask()
    customer.ask()
    customer.embed(["one", "two words"])
    customer.embed(["one", "two words", "and three words"])
    customer.embed("one")
    customer.events(5)
    worker = engine_for(shop.house.database.url("worker"))
    node_agent = engine_for(shop.house.database.url("node_agent"))
    try:
        now = clock.now()
        with unit_of_work(node_agent) as session:
            for variant, engine in ((CHAT, shop.chat), (EMBEDDING, shop.embedding)):
                counters = engine.counters()
                session.execute(
                    insert(EngineCounters).values(
                        replica_id=shop.replicas[variant],
                        observed_at=now,
                        prompt_tokens=counters.prompt_tokens,
                        completion_tokens=counters.generation_tokens,
                    )
                )
        day = now.astimezone(clock.BERLIN).date()

        def is_sealed() -> bool:
            with unit_of_work(worker) as session:
                windows.seal(
                    session, window_day=day, tenant_id=customer.tenant_id, by="test", reason="test",
                    cutoff=now, now=clock.now(),
                )  # fmt: skip
            return True

        wait_until(_once_complete(is_sealed), seconds=15)
        with unit_of_work(worker) as session:
            (seal,) = [one for one in windows.seals(session) if one.key.tenant_id == customer.tenant_id]
            assert usage.count(session, seal.key).held_events == 0
            rated_lines.rate_seal(session, seal.key)
            comparisons = reconcile.reconcile_seal(session, seal.key, clock.now())
        assert {comparison.kind: comparison.agrees for comparison in comparisons} == {
            reconcile.ENGINES: True,
            reconcile.RATING: True,
        }
        compared = {c.subject: (c.expected, c.observed) for c in comparisons if c.kind == reconcile.ENGINES}
        assert len(compared) == 2
        assert all(expected == observed > 0 for expected, observed in compared.values())
        month = clock.month_start(day)
        with unit_of_work(shop.house.operator) as session:
            request = invoice_requests.request_invoice(
                session, tenant_id=customer.tenant_id, month=month, by="test", reason="test", now=clock.now()
            )
        with unit_of_work(worker) as session:
            invoice_id = draft.draft(session, request.id, clock.now())
            lines = session.scalars(select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id)).all()
            found = {(line.variant_id, line.unit): line.tokens for line in lines}
            explained = {line.explanation for line in lines if line.unit == "reused"}
            net = session.get_one(Invoice, invoice_id).net
        assert found == {
            (CHAT, "prompt"): 2,
            (CHAT, "cached_prompt"): 1,
            (CHAT, "completion"): 5,
            (CHAT, "reused"): 8,
            (EMBEDDING, "embedding"): 6,
            (EMBEDDING, "reused"): 4,
        }
        assert explained == {
            "8 tokens of reused answers x 10.00 EUR / 1,000,000",
            "4 tokens of reused answers x 5.00 EUR / 1,000,000",
        }
        assert invoice_id is not None
        # The same from events and prices, by code that shares nothing with billing.
        recomputed = Auditor(shop.house.database.url("auditor")).recompute(invoice_id, Decimal("0.19"))
        assert (recomputed.events, recomputed.tokens, recomputed.net) == (5, 26, net)
    finally:
        worker.dispose()
        node_agent.dispose()


def _once_complete(act: Callable[[], bool]) -> Callable[[], bool]:
    def attempt() -> bool:
        try:
            return act()
        except UsageNotComplete:
            return False

    return attempt

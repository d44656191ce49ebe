"""Margins: a day's cost is split by busy time, sums to the whole, and is unknown as soon as a part of it is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import insert, text

from billing import energy, margin
from billing.energy import CardHour
from billing.margin import Drawn, Margin, Rates, Running, margins
from studio.db.documents import FxRate
from studio.db.observation import CostRate, MarginDaily
from tests.billing.books import CHAT, Books
from training.card_time import card_time

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 11, tzinfo=UTC)
RATES = Rates(Decimal("0.30"), Decimal("1.20"))
ACME, BETA = sorted((uuid4(), uuid4()))
HOUR_OF_TWO_CARDS = Decimal(2 * 3600)


def running(kwh: str | None = "1.5", **busy: Decimal) -> Running:
    of = {(ACME, CHAT): busy.get("acme", Decimal(30)), (BETA, "chat-fast"): busy.get("beta", Decimal(10))}
    return Running(CHAT, HOUR_OF_TWO_CARDS, None if kwh is None else Decimal(kwh), {k: v for k, v in of.items() if v})


def by_tenant(rows: list[Margin]) -> dict[UUID | None, Margin]:
    return {row.tenant_id: row for row in rows}


def test_who_keeps_a_replica_busy_bears_its_idle_time_too() -> None:
    revenue = {(ACME, CHAT): {"EUR": Decimal(4)}, (BETA, "chat-fast"): {"EUR": Decimal("0.1")}}
    rows = by_tenant(margins(DAY, RATES, [running()], revenue, {}))
    acme, beta = rows[ACME], rows[BETA]
    assert (acme.share, beta.share) == (Decimal("0.75"), Decimal("0.25"))
    assert acme.cost == Decimal("0.75") * (Decimal("1.5") * Decimal("0.30") + 2 * Decimal("1.20"))
    assert acme.margin == Decimal(4) - acme.cost
    assert beta.margin is not None
    assert beta.margin < 0
    assert acme.kwh is not None
    assert beta.kwh is not None
    assert acme.kwh + beta.kwh == Decimal("1.5")
    assert (beta.variant_id, beta.running_variant_id) == ("chat-fast", CHAT)


@pytest.mark.parametrize(
    ("rates", "kwh"),
    [
        (RATES, None),
        (Rates(None, Decimal("1.20")), "1.5"),
        (Rates(Decimal("0.30"), None), "1.5"),
        (Rates(None, None), None),
    ],
)
def test_what_is_not_measured_is_never_0(rates: Rates, kwh: str | None) -> None:
    rows = margins(DAY, rates, [running(kwh)], {}, {})
    assert len(rows) == 2
    assert all(row.cost is None and row.margin is None for row in rows)
    assert margin.total(row.cost for row in rows) is None


def test_a_variant_without_cards_has_a_cost_that_nobody_measured() -> None:
    on_cpu = Running(CHAT, Decimal(0), Decimal(0), {(ACME, CHAT): Decimal(5)})
    (row,) = margins(DAY, RATES, [on_cpu], {}, {})
    assert (row.card_cost, row.cost) == (None, None)


def test_a_replica_that_answered_nobody_costs_all_the_same() -> None:
    (row,) = margins(DAY, RATES, [running(acme=Decimal(0), beta=Decimal(0))], {}, {})
    assert (row.tenant_id, row.share, row.cost) == (None, Decimal(1), Decimal("2.85"))
    assert row.margin == -Decimal("2.85")


def test_energy_is_that_of_every_card_in_every_hour_or_is_not_known() -> None:
    noon, one = NOON + timedelta(hours=1), Drawn(1, Decimal(1_800_000))
    assert margin.kwh({NOON: Decimal(3600)}, {NOON: one}) == Decimal("0.5")
    assert margin.kwh({NOON: Decimal(3540)}, {NOON: one}) == Decimal("0.5")  # two lives on one card
    assert margin.kwh({NOON: Decimal(20), noon: Decimal(3600)}, {noon: one}) == Decimal("0.5")
    assert margin.kwh({NOON: Decimal(4200)}, {NOON: one}) is None  # two cards at least
    assert margin.kwh({NOON: Decimal(120), noon: Decimal(3600)}, {noon: one}) is None
    assert margin.kwh({NOON: Decimal(3600)}, {NOON: Drawn(1, None)}) is None
    assert margin.kwh({NOON: Decimal(20)}, {}) is None
    assert margin.kwh({}, {NOON: one}) is None


def test_another_currency_has_a_cost_and_no_margin_and_a_cached_answer_costs_nothing() -> None:
    revenue = {(ACME, CHAT): {"CNY": Decimal(4)}, (BETA, CHAT): {"EUR": Decimal(1)}}
    rows = by_tenant(margins(DAY, RATES, [running(beta=Decimal(0))], revenue, {}))
    assert (rows[ACME].currency, rows[ACME].margin, rows[ACME].share) == ("CNY", None, Decimal(1))
    assert (rows[BETA].share, rows[BETA].cost, rows[BETA].margin) == (Decimal(0), Decimal(0), Decimal(1))


def test_revenue_in_yuan_bears_its_cost_at_the_months_rate_or_has_no_margin() -> None:
    revenue = {(ACME, CHAT): {"CNY": Decimal(40)}}
    (row,) = margins(DAY, RATES, [running(beta=Decimal(0))], revenue, {})
    known = margin.converted(row, Decimal("7.5000"))
    assert (known.cost, known.margin) == (Decimal("2.85"), Decimal(40) - Decimal("2.85") * Decimal("7.5"))
    assert (margin.converted(row, None).margin, margin.converted(row, None).cost) == (None, Decimal("2.85"))
    unmeasured = margins(DAY, Rates(None, None), [running(beta=Decimal(0))], revenue, {})[0]
    assert margin.converted(unmeasured, Decimal("7.5000")).margin is None


class TestADay:
    """From rows: an engine with two cards, up from 11:00 to 13:00 UTC; a tenant that used it for a second."""

    HOURS = tuple(NOON + timedelta(hours=n) for n in range(2))

    @pytest.fixture
    def used(self, books: Books) -> Books:
        tenant, gateway = books.tenant(), books.gateway()
        gateway.uses(tenant, NOON, prompt=1_000_000)
        books.close_day(gateway, tenant, DAY)
        with books.database.superuser() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("update model_variants set gpu_count = 2 where id = 'chat'")
            connection.execute(
                "update replicas set created_at = %s, stopped_at = %s", (NOON, NOON + timedelta(hours=2))
            )
        with books.as_role("worker") as session:
            begin = datetime(2026, 1, 1, tzinfo=UTC)
            rates = {"eur_per_kwh": RATES.eur_per_kwh, "eur_per_card_hour": RATES.eur_per_card_hour}
            session.execute(insert(CostRate).values(valid_from=begin, source="tests", **rates))
        return books

    def measured(self, books: Books, *joules: str | None, gap: str = "0") -> list[MarginDaily]:
        """The day's rows, computed twice, with so many joules of each of the two cards in the hours."""
        with books.as_role("worker") as session:
            for hour, drawn in zip(self.HOURS, joules, strict=True):
                of = None if drawn is None else Decimal(drawn)
                cards = [CardHour(hour, card, "n1", CHAT, of, Decimal(gap)) for card in ("A", "B")]
                energy.store_hour(session, hour, cards)
            for _ in range(2):
                margin.store(session, DAY, margin.compute(session, DAY))
        with books.as_role("auditor") as session:
            return list(session.query(MarginDaily).order_by(MarginDaily.tenant_id))

    def test_energy_and_cards_make_the_cost(self, used: Books) -> None:
        (row,) = self.measured(used, "900000", "1800000")
        assert (row.kwh, row.card_seconds, row.busy_seconds) == (Decimal("1.5"), Decimal(4 * 3600), Decimal(1))
        assert row.cost == Decimal("1.5") * Decimal("0.30") + 4 * Decimal("1.20")
        assert row.revenue == Decimal("0.02")
        assert row.margin == row.revenue - row.cost

    def test_one_hour_that_is_not_measured_leaves_the_day_without_a_cost(self, used: Books) -> None:
        (row,) = self.measured(used, "900000", None)
        assert (row.kwh, row.cost, row.margin) == (None, None, None)
        assert row.card_cost == Decimal("4.8")

    def test_a_card_whose_exporter_was_away_is_missed(self, used: Books) -> None:
        """Prometheus knows nothing of it then, and half of the energy would look like all of it."""
        self.measured(used, "900000", "1800000")
        with used.as_role("worker") as session:
            session.execute(text("delete from card_energy where card = 'B' and hour = :hour"), {"hour": self.HOURS[1]})
            (row,) = margin.compute(session, DAY)
        assert (row.kwh, row.energy_cost, row.cost, row.margin) == (None, None, None, None)

    def test_an_hour_with_gaps_counts_as_not_measured(self, used: Books) -> None:
        (row,) = self.measured(used, "900000", "1800000", gap="40")
        assert row.kwh is None

    def test_an_hour_that_nobody_read_is_not_measured(self, used: Books) -> None:
        with used.as_role("worker") as session:
            session.execute(text("delete from card_energy"))
            (row,) = margin.compute(session, DAY)
        assert row.kwh is None

    @pytest.mark.parametrize("gap", ["0", "40"])
    def test_a_fine_tune_costs_what_its_trainers_cards_were_held_for_and_drew(self, used: Books, gap: str) -> None:
        """Two attempts on two cards: the first was killed at its second step, the other told 900 s of its own."""
        job, file = uuid4(), uuid4()
        with used.database.superuser() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(
                "insert into fine_tuning_jobs (id, tenant_id, api_key_id, variant_id, training_file_id, seed,"
                " hyperparameters, state, created_at, started_at, finished_at)"
                " select %s, id, %s, 'chat', %s, 1, '{}', 'succeeded', %s, %s, %s from tenants where slug = 'kunde'",
                (job, uuid4(), file, NOON, NOON, NOON + timedelta(hours=1, minutes=30)),
            )
            connection.execute(
                "insert into rated_lines (id, window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day,"
                " legal_entity_id, currency, tokens, per_million, amount, code_version)"
                " select uuidv7(), window_day, tenant_id, 9, variant_id, 'training', price_id, billing_day,"
                " legal_entity_id, currency, 1000000, 3, 3, code_version from rated_lines"
            )
            told = ((1, 10, 100.5), (2, 10, 600), (3, 20, 700), (4, 20, 1800), (5, 20, None))
            for seq, attempt, held in told:
                data = {"step": seq} if held is None else {"step": seq, **card_time(2, held / 2, attempt)}
                connection.execute(
                    "insert into fine_tuning_events (job_id, seq, tenant_id, at, level, type, message, data)"
                    " select %s, %s, tenant_id, %s, 'info', 'metrics', '', %s from fine_tuning_jobs",
                    (job, seq, NOON, Jsonb(data)),
                )
        with used.as_role("worker") as session:
            for hour in self.HOURS:
                drawn = CardHour(hour, "T", "n1", None, Decimal(1_800_000), Decimal(gap), job)
                energy.store_hour(session, hour, [drawn])
            found = {row.is_training: row for row in margin.compute(session, DAY)}
            margin.store(session, DAY, list(found.values()))
        row = found[True]
        assert row.card_seconds == 600 + 1800
        assert row.card_cost == Decimal(2400) / 3600 * Decimal("1.20")
        if gap == "0":
            assert row.kwh == 1
            assert row.cost == Decimal("0.30") + Decimal("0.80")
            assert row.margin == row.revenue - row.cost
        else:
            assert (row.kwh, row.cost, row.margin) == (None, None, None)
        assert card_time(0, 5, 1) == {}  # on a machine without cards nothing is told, and so nothing is known

    def test_a_fine_tune_has_revenue_and_a_cost_that_nobody_measured_and_yuan_wait_for_their_rate(
        self, used: Books
    ) -> None:
        with used.database.superuser() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(
                "insert into rated_lines (id, window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day,"
                " legal_entity_id, currency, tokens, per_million, amount, code_version)"
                " select uuidv7(), window_day, tenant_id, 9, variant_id, 'training', price_id, billing_day,"
                " legal_entity_id, currency, 1000000, 3, 3, code_version from rated_lines"
            )
            connection.execute("update rated_lines set currency = 'CNY'")
        rows = self.measured(used, "900000", "1800000")
        found = {row.is_training: row for row in rows}
        assert (found[True].revenue, found[True].cost, found[True].margin) == (Decimal(3), None, None)
        assert (found[False].units_per_euro is None) == (found[False].margin is None)
        with used.database.superuser() as connection:  # as before the month's average was known
            connection.execute("update margin_daily set units_per_euro = null, margin = null")
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from fx_rates")
        with used.as_role("worker") as session:
            assert margin.waiting_for_a_rate(session) == []
            published = {"source": "BMF", "derivation": "tests", "rate": Decimal("7.5000")}
            session.execute(insert(FxRate).values(quote="CNY", month=DAY.replace(day=1), **published))
            assert margin.waiting_for_a_rate(session) == [DAY]
            margin.store(session, DAY, margin.compute(session, DAY))
            assert margin.waiting_for_a_rate(session) == []
        with used.as_role("auditor") as session:
            row = session.query(MarginDaily).filter(~MarginDaily.is_training).one()
        assert row.cost is not None
        assert row.margin == row.revenue - row.cost * Decimal("7.5")

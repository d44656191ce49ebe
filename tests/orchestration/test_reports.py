"""The monthly report and the daily margin in Dagster: from rows and from a real Prometheus, and again in place."""

from __future__ import annotations

import subprocess
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import insert

from serving.objectives import months
from studio import clock
from studio.db.fleet import Replica
from studio.db.observation import CardEnergy, CostRate, MarginDaily, SloFigure
from studio.prometheus import Prometheus, PrometheusUnanswered
from tests.billing.books import CHAT, Books
from tests.k8s.prometheus import prometheus, promtool
from tests.orchestration.location import Location

OCTOBER = date(2026, 10, 1)
BEGIN, END = datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
TRAINED = UUID(int=7)


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What the asset's page shows; a table as its rows."""
    (event,) = result.asset_materializations_for_node(asset)
    return {
        name: [dict(row.data) for row in value.records] if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in event.metadata.items()
    }


def test_a_month_is_reported_from_rows_and_again_in_place(books: Books, location: Location) -> None:
    """`chat` is open around the clock; its engine came two hours late and died for one.

    `embedding` was new on the 31st, and its only replica never answered.
    """
    with books.database.superuser() as connection:
        connection.execute(
            "update replicas set state = 'stopped', ready_at = null, created_at = %s, stopped_at = %s",
            (BEGIN - 48 * HOUR, BEGIN - 24 * HOUR),
        )
        connection.execute(
            "insert into replicas (variant_id, kind, state, url, engine_model, created_at, stopped_at)"
            " values ('embedding', 'process', 'failed', '', 'embedding', %s, %s)",
            (END - 10 * HOUR, END - 9 * HOUR),
        )
    with books.as_role("node_agent") as session:
        for ready_at, stopped_at in (
            (BEGIN + 2 * HOUR, BEGIN + 240 * HOUR),
            (BEGIN + 241 * HOUR, None),
        ):
            session.execute(
                insert(Replica).values(
                    variant_id=CHAT, kind="process", state="ready", url="", engine_model=CHAT, ready_at=ready_at,
                    stopped_at=stopped_at, created_at=ready_at,
                )
            )  # fmt: skip
    tenant, gateway = books.tenant(), books.gateway()
    noon, late = datetime(2026, 10, 10, 12, tzinfo=UTC), timedelta(milliseconds=501)
    gateway.uses(tenant, noon, prompt=3, completion=2)
    gateway.uses(tenant, noon, prompt=1_000_000, variant="chat-fast", first_token_after=late)
    books.close_day(gateway, tenant, noon.date())
    for _ in range(2):
        result = location.run("report_objectives", OCTOBER.isoformat())
    with books.as_role("operator") as session:
        kept = {(row.objective, row.subject): row for row in months.stored(session, OCTOBER)}
    hours = 31 * 24 + 1  # the clocks were set back
    of_chat = kept["availability", CHAT]
    assert of_chat.value == Decimal((hours - 3) * 1_000_000 // hours) / 1_000_000
    assert (of_chat.target, of_chat.is_met, of_chat.samples) == (Decimal("0.995"), True, hours * 3600)
    assert (kept["prewarm", CHAT].value, kept["prewarm", CHAT].samples) == (None, 0)  # it never opened
    of_fast = kept["availability", "chat-fast"]  # which `chat` answers for
    assert (of_fast.value, of_fast.samples) == (of_chat.value, of_chat.samples)
    assert kept["availability", "embedding"].value == 0
    assert kept["availability", "embedding"].is_met is False
    first = kept["first_token_ms_p50", CHAT]
    assert (first.value, first.target, first.is_met, first.samples) == (Decimal(0), None, None, 1)
    of_fast = kept["fast_target", "chat-fast"]
    assert (of_fast.value, of_fast.target, of_fast.samples, of_fast.details["missed"]) == (Decimal(0), None, 1, 1)
    unmeasured = kept["usage_error", "chat"]  # no request was counted again, which is not 0 % of errors
    assert (unmeasured.value, unmeasured.target, unmeasured.is_met) == (None, Decimal("0.02"), None)
    page = str(metadata(result, "slo_report")["page"])
    assert "| kunde | chat-fast | 1000000 | 0.020000000000 EUR | 0.012" in page
    assert "| embedding | 0 | 0.995 | **no** | 36000" in page
    assert "| chat | not measured | 0.02 |  | 0, counted_tokens: 0 |" in page
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    with books.as_role("auditor") as session:
        assert session.query(SloFigure).count() == len(kept)


def test_a_final_month_stays_until_somebody_says_why_it_is_computed_anew(books: Books, location: Location) -> None:
    """A calendar that changes, or a row that is corrected, says nothing of what customers were told."""

    def availability() -> SloFigure:
        with books.as_role("operator") as session:
            (of_chat,) = (
                one for one in months.stored(session, OCTOBER) if (one.objective, one.subject) == ("availability", CHAT)
            )
            return of_chat

    location.run("report_objectives", OCTOBER.isoformat())
    told = availability()
    assert told.value == 0
    with books.database.superuser() as connection:
        connection.execute(
            "insert into replicas (variant_id, kind, state, url, engine_model, created_at, ready_at)"
            " values ('chat', 'process', 'ready', '', 'chat', %s, %s)",
            (BEGIN, BEGIN),
        )
    again = metadata(location.run("report_objectives", OCTOBER.isoformat()), "slo_report")
    assert (availability().value, availability().computed_at) == (Decimal(0), told.computed_at)
    assert "| chat | 0 | 0.995 | **no** |" in str(again["page"])
    differing = {(one["objective"], one["subject"]): one["value"] for one in again["differs_now"]}
    assert differing == {("availability", CHAT): "1", ("availability", "chat-fast"): "1"}
    why = {"ops": {"slo_report": {"config": {"anew_because": "a replica's row was missing"}}}}
    anew = metadata(location.run("report_objectives", OCTOBER.isoformat(), why), "slo_report")
    assert (availability().value, anew["anew_because"]) == (Decimal(1), "a replica's row was missing")


@pytest.mark.parametrize(
    ("computed_at", "stays"),
    [("2026-11-02 23:59:59+01:00", False), ("2026-11-03 00:00:00+01:00", True), ("2026-10-15 05:00:00+02:00", False)],
)
def test_a_month_is_final_on_its_third_morning(computed_at: str, stays: bool) -> None:
    assert months.is_final(OCTOBER, datetime.fromisoformat(computed_at)) is stays


def test_the_schedule_asks_for_the_running_month_and_for_what_is_not_final(books: Books, location: Location) -> None:
    """Also after a week without Dagster."""
    with books.database.superuser() as connection:
        connection.execute(
            "insert into slo_figures (month, objective, subject, samples, computed_at) values"
            " ('2026-08-01', 'prewarm', 'chat', 0, '2026-09-03'), ('2026-09-01', 'prewarm', 'chat', 0, '2026-10-01')"
        )
    repository = location.defs.get_repository_def()
    at = datetime(2026, 10, 9, 5, tzinfo=clock.BERLIN)
    with dg.build_schedule_context(
        instance=location.instance, scheduled_execution_time=at, resources=location.resources,
        repository_def=repository,
    ) as context:  # fmt: skip
        asked = repository.get_schedule_def("daily_objectives").evaluate_tick(context).run_requests or []
    assert [one.partition_key for one in asked] == ["2026-09-01", "2026-10-01"]


def backfilled(
    folder: Path, start: datetime, hours: int, *, until: datetime, back_to_0: datetime | None = None
) -> None:
    """Blocks of a Prometheus that saw two cards: A draws 300 W and is held by `chat`, B 100 W and by a trainer.

    `back_to_0`: when their counters began again, since the exporter's records were lost.
    """
    lines: dict[str, list[str]] = {name: [] for name in ("energy", "unmeasured", "up", "workload")}
    for minute in range(hours * 60 + 1):
        at = start + timedelta(minutes=minute)
        if at > until:
            break
        for card, watts in (("A", 300), ("B", 100)):
            labels, stamp = f'uuid="{card}",host="n1"', int(at.timestamp())
            since = start if back_to_0 is None or at < back_to_0 else back_to_0
            joules = 1000 + watts * int((at - since).total_seconds())
            lines["energy"].append(f"studio_gpu_energy_joules_total{{{labels}}} {joules} {stamp}")
            lines["unmeasured"].append(f"studio_gpu_energy_unmeasured_seconds_total{{{labels}}} 5 {stamp}")
            lines["up"].append(f"studio_gpu_up{{{labels}}} 1 {stamp}")
            if card == "A":
                lines["workload"].append(f'studio_gpu_workload_info{{{labels},variant="{CHAT}",pod="p"}} 1 {stamp}')
            else:
                pod = f'pod="fine-tune-{TRAINED.hex}-x7k2p"'
                lines["workload"].append(f"studio_gpu_workload_info{{{labels},{pod}}} 1 {stamp}")
    kinds = {
        "studio_gpu_energy_joules": ("counter", "energy"),
        "studio_gpu_energy_unmeasured_seconds": ("counter", "unmeasured"),
        "studio_gpu_up": ("gauge", "up"),
        "studio_gpu_workload_info": ("gauge", "workload"),
    }
    written = [f"# TYPE {name} {kind}\n" + "\n".join(lines[of]) for name, (kind, of) in kinds.items()]
    source = folder / "seen.txt"
    source.write_text("\n".join([*written, "# EOF\n"]))
    subprocess.run(
        [promtool(), "tsdb", "create-blocks-from", "openmetrics", source, folder / "tsdb"],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def used(books: Books) -> tuple[Books, date, datetime]:
    """An engine on one card, up from 11:00 to 13:00 UTC two days ago, and a tenant that used it."""
    noon = (clock.now() - timedelta(days=2)).replace(hour=11, minute=0, second=0, microsecond=0)
    day = noon.astimezone(clock.BERLIN).date()
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, noon, prompt=1_000_000)
    books.close_day(gateway, tenant, day)
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update model_variants set gpu_count = 1 where id = 'chat'")
        connection.execute("update replicas set created_at = %s, stopped_at = %s", (noon, noon + 2 * HOUR))
    with books.as_role("worker") as session:
        rate = {"eur_per_kwh": Decimal("0.25"), "eur_per_card_hour": Decimal("0.5"), "source": "tests"}
        session.execute(insert(CostRate).values(valid_from=datetime(2026, 1, 1, tzinfo=UTC), **rate))
    return books, day, noon


def measure(location: Location, url: str | None, day: date) -> dict[str, object]:
    """The job with a Prometheus; what `margin_daily` shows."""
    location.resources["prometheus"] = Prometheus(url)
    return metadata(location.run("measure_costs", day.isoformat()), "margin_daily")


def test_energy_comes_from_prometheus_and_makes_the_margin(
    used: tuple[Books, date, datetime], location: Location, tmp_path: Path
) -> None:
    books, day, noon = used
    backfilled(tmp_path, noon - HOUR, 4, until=noon + 2 * HOUR)
    with prometheus(tmp_path, [], {}) as server:
        for _ in range(2):
            shown = measure(location, server.url, day)
    with books.as_role("auditor") as session:
        (row,) = session.query(MarginDaily)
        hours = session.query(CardEnergy).where(CardEnergy.hour == noon).order_by(CardEnergy.card).all()
    assert [(one.card, one.variant_id, one.fine_tune_id, one.joules) for one in hours] == [
        ("A", CHAT, None, Decimal(1_080_000)),
        ("B", None, TRAINED, Decimal(360_000)),
    ]
    assert (row.kwh, row.card_seconds) == (Decimal("0.6"), Decimal(7200))
    assert row.cost == Decimal("0.6") * Decimal("0.25") + 2 * Decimal("0.5")
    assert shown["margin_EUR_plot"] == pytest.approx(float(Decimal("0.02") - row.cost))


@pytest.mark.parametrize("fault", ["saw half of it", "saw its counters fall"])
def test_a_prometheus_that_saw_no_whole_hour_leaves_the_day_unmeasured(
    fault: str, used: tuple[Books, date, datetime], location: Location, tmp_path: Path
) -> None:
    books, day, noon = used
    if fault == "saw half of it":
        backfilled(tmp_path, noon - HOUR, 4, until=noon + HOUR + timedelta(minutes=20))
    else:
        backfilled(tmp_path, noon - HOUR, 4, until=noon + 3 * HOUR, back_to_0=noon + HOUR + timedelta(minutes=20))
    with prometheus(tmp_path, [], {}) as server:
        shown = measure(location, server.url, day)
    assert (shown["kwh"], shown["cost_EUR"], shown["margin_EUR"]) == ("not measured",) * 3
    assert "margin_EUR_plot" not in shown
    with books.as_role("auditor") as session:
        half = session.query(CardEnergy).where(CardEnergy.hour == noon + HOUR, CardEnergy.card == "A").one()
    assert half.joules is None


def test_without_a_prometheus_nothing_is_measured_and_one_that_is_away_fails_the_run(
    used: tuple[Books, date, datetime], location: Location
) -> None:
    _, day, _ = used
    assert measure(location, None, day)["cost_EUR"] == "not measured"
    with pytest.raises(PrometheusUnanswered, match="did not answer"):
        measure(location, "http://127.0.0.1:9", day)

"""A fine-tune becomes usage once, whatever ends it, and is billed like any other: sealed, rated twice, reconciled."""

from __future__ import annotations

import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from billing import archive, archive_format, rate_archive, rated_lines, receipt, reconcile, usage, windows
from billing.windows import Seal
from studio import clock, ids, training_usage
from studio.db.jobs import FineTuningJob
from studio.db.sessions import unit_of_work
from studio.db.usage import UsageEvent
from studio.objects import ObjectStore
from studio.settings import Settings
from studio.tenants import CreatedKey
from tests.training.desk import Desk
from training import jobs
from training.jobs import NewAdapter
from training.process import LocalTrainers, trainer_environment
from training.progress import ProgressEvent
from training.run import Workshop


@pytest.fixture
def desk(
    tmp_path: Path, worker: Engine, tenant: UUID, api_key: CreatedKey, store: ObjectStore, s3_settings: Settings
) -> Desk:
    """A tenant with a shop in which nobody trains."""
    trainers = LocalTrainers(store, Path(sys.executable), trainer_environment(s3_settings), tmp_path)
    return Desk(tenant, api_key.id, Workshop(worker, store, trainers))


def trained(desk: Desk, *reported: int, days_ago: int = 3) -> UUID:
    """A job of some days ago whose trainer has reported so many tokens after each step."""
    job_id = desk.job()
    with unit_of_work(desk.shop.database) as session:
        asked_at = clock.now() - timedelta(days=days_ago)
        session.execute(update(FineTuningJob).where(FineTuningJob.id == job_id).values(created_at=asked_at))
        job = jobs.fine_tune(session, job_id)
        for seq, tokens in enumerate(reported, start=1):
            data = {"step": seq, "train_loss": 1.0, "trained_tokens": tokens}
            event = ProgressEvent(seq, clock.now().isoformat(), "info", "metrics", "a step", data)
            jobs.add_event(session, job, event)
    return job_id


def succeed(desk: Desk, job_id: UUID, trained_tokens: int) -> bool:
    id = ids.uuid7()
    adapter = NewAdapter(id, f"ft:{id.hex}", id.hex, "x/", "0" * 64, 8, 1)
    with unit_of_work(desk.shop.database) as session:
        return jobs.succeed(session, jobs.fine_tune(session, job_id), adapter, trained_tokens)


def events(desk: Desk) -> list[UsageEvent]:
    with unit_of_work(desk.shop.database) as session:
        return list(session.scalars(select(UsageEvent).where(UsageEvent.tenant_id == desk.tenant_id)))


def seal(desk: Desk) -> Seal:
    """What the calendar and Dagster do with the day of the only event."""
    (event,) = events(desk)
    day = event.started_at.astimezone(clock.BERLIN).date()
    with unit_of_work(desk.shop.database) as session:
        return windows.seal(
            session, window_day=day, tenant_id=desk.tenant_id, by="calendar", reason="closed",
            cutoff=windows.closes_at(day), now=clock.now(),
        )  # fmt: skip


def process(desk: Desk, sealed: Seal) -> dict[str, Any]:
    """Count, archive, rate, rate again and reconcile; each comparison by its kind."""
    with unit_of_work(desk.shop.database) as session:
        assert usage.count(session, sealed.key).held_events == 0
        archive.archive_seal(session, desk.shop.store, archive_format.connect(), sealed.key, clock.now())
        rated_lines.rate_seal(session, sealed.key)
    with unit_of_work(desk.shop.database) as session:
        again = rate_archive.rate_twice(session, desk.shop.store, [sealed.key])
        twice = reconcile.rated_twice(sealed.key, again[sealed.key])
        compared = reconcile.reconcile_seal(session, sealed.key, clock.now(), twice)
    return {one.kind: one for one in compared}


def test_a_job_that_succeeded_is_billed_by_the_token_and_once(desk: Desk) -> None:
    job_id = trained(desk, 4_000, 8_000, 12_000)
    assert succeed(desk, job_id, 12_000)
    assert not succeed(desk, job_id, 12_000), "it has ended already"
    with unit_of_work(desk.shop.database) as session:
        jobs.cancel(session, job_id)
    (event,) = events(desk)
    job = desk.row(job_id)
    assert (event.prompt_tokens, event.replica_id) == (12_000, None)
    assert event.started_at == job.created_at, "it belongs to the instant at which it was asked for"
    sealed = seal(desk)
    compared = process(desk, sealed)
    assert {kind: one.agrees for kind, one in compared.items()} == {
        reconcile.RATING: True, reconcile.ARCHIVE: True, reconcile.TRAINERS: True,
    }  # fmt: skip
    with unit_of_work(desk.shop.database) as session:
        (line,) = [
            one for one in rated_lines.lines_of(session, sealed.key.window_day) if one.tenant_id == desk.tenant_id
        ]
        document = receipt.document_of(session, desk.tenant_id, event.id, "key")
        assert windows.lock(session, sealed.key).state == "reconciled"
    assert (line.unit, line.tokens, line.amount) == ("training", 12_000, Decimal("1.8"))
    assert line.explanation == "12,000 tokens of training x 150.00 EUR / 1,000,000"
    assert document is not None
    assert event.id == training_usage.event_id(job_id, job.created_at)
    assert document["fine_tuning_job"] == ids.to_wire(ids.FINE_TUNING_JOB, job_id)
    assert (document["charged"], document["amount"]) == (True, "1.800000000000")


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(100_000 * 1_024 * 50, ["succeed"])  # the largest job there can be
@given(st.integers(1, 2**40), st.lists(st.sampled_from(["succeed", "cancel", "fail"]), min_size=1, max_size=4))
def test_whatever_ends_a_job_and_however_often_it_is_billed_at_most_once(
    desk: Desk, tokens: int, ends: list[str]
) -> None:
    job_id = trained(desk, tokens // 2, tokens)
    for end in ends:
        if end == "succeed":
            succeed(desk, job_id, tokens)
            continue
        with unit_of_work(desk.shop.database) as session:
            if end == "cancel":
                jobs.cancel(session, job_id)
            else:
                jobs.fail(session, job_id, "server_error", "ours")
    name = ids.to_wire(ids.FINE_TUNING_JOB, job_id)
    billed = [event.prompt_tokens for event in events(desk) if event.request_id == name]
    assert billed == ([] if ends[0] == "fail" else [tokens])


def test_a_cancelled_job_pays_what_its_trainer_had_reported(desk: Desk) -> None:
    untouched, begun = trained(desk), trained(desk, 4_000, 8_000)
    with unit_of_work(desk.shop.database) as session:
        jobs.cancel(session, untouched)
        jobs.cancel(session, begun)
        jobs.cancel(session, begun)
    (event,) = events(desk)
    assert (event.prompt_tokens, event.end_reason) == (8_000, "client_left")
    assert desk.row(begun).trained_tokens == 8_000
    assert process(desk, seal(desk))[reconcile.TRAINERS].agrees


def test_what_failed_is_billed_to_nobody(desk: Desk) -> None:
    job_id = trained(desk, 4_000)
    with unit_of_work(desk.shop.database) as session:
        jobs.give_up(session, job_id)
        jobs.cancel(session, job_id)
    assert events(desk) == []


def test_tokens_that_the_trainer_does_not_confirm_are_never_invoiced(desk: Desk) -> None:
    """Its data set times its epochs comes to more than it read in steps: one of them is wrong."""
    assert succeed(desk, trained(desk, 4_000, 8_000), 8_001)
    sealed = seal(desk)
    compared = process(desk, sealed)[reconcile.TRAINERS]
    assert (compared.agrees, compared.expected, compared.observed) == (False, 8_001, 8_000)
    with unit_of_work(desk.shop.database) as session:
        assert windows.lock(session, sealed.key).state == "rated"

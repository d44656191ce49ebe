"""A budget holds what a training will cost from before its first step until its end, once, and then what it cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from sqlalchemy import Engine, insert, select, text, update

from billing import receipt
from studio import clock, ids
from studio.budgets import put_budget
from studio.db.budgets import Budget, BudgetAccount, BudgetDraw
from studio.db.catalog import Quote
from studio.db.jobs import FineTuningJob
from studio.db.sessions import engine_for, tenant_scope, unit_of_work
from studio.db.usage import UsageEvent, UsageSource
from studio.objects import ObjectStore
from studio.settings import Settings
from studio.tenants import CreatedKey
from studio.training_usage import ENDPOINT, TOKENS_TO_TRAIN, event_id
from tests.server import TestDatabase
from tests.training.desk import Desk, desk_with_weights_nobody_reads, with_trainer
from tests.training.stand_in import TOKENS
from training import budget_hold, jobs
from training.budget_hold import BudgetShort
from training.jobs import NewAdapter
from training.progress import ProgressEvent
from training.run import Outcome, run_fine_tune
from training.trainers import TrainerDied

COST = Decimal("1.50")  # of the stand-in's tokens, at 150 EUR a million

SetBudget = Callable[..., UUID]


@pytest.fixture
def desk(
    tmp_path: Path, worker: Engine, tenant: UUID, api_key: CreatedKey, store: ObjectStore, s3_settings: Settings
) -> Desk:
    """A tenant with a shop whose trainers are stand-ins."""
    return desk_with_weights_nobody_reads(tenant, api_key.id, worker, store, s3_settings, tmp_path)


@pytest.fixture
def budget(operator: Engine, desk: Desk) -> SetBudget:
    """Set a budget, as an operator does."""

    def put(kind: Literal["prepaid", "monthly"], amount: str, *, of_key: bool = False) -> UUID:
        with unit_of_work(operator) as session:
            key_id = desk.key_id if of_key else None
            return put_budget(session, desk.tenant_id, key_id, kind, Decimal(amount), "tests")

    return put


def accounts(desk: Desk) -> dict[UUID, tuple[Decimal, Decimal]]:
    """What is spent and what is held, by budget."""
    with unit_of_work(desk.shop.database) as session:
        spent = dict(session.execute(select(BudgetAccount.budget_id, BudgetAccount.spent)).tuples().all())
        held = dict(session.execute(select(BudgetDraw.budget_id, BudgetDraw.amount)).tuples().all())
    return {id: (spent.get(id, Decimal(0)), held.get(id, Decimal(0))) for id in spent | held}


def usage(desk: Desk) -> list[UsageEvent]:
    with unit_of_work(desk.shop.database) as session:
        return list(session.scalars(select(UsageEvent)))


def says(desk: Desk, job_id: UUID, seq: int, type: Literal["message", "metrics"], **data: Any) -> None:
    """An event of the trainer's, copied."""
    with unit_of_work(desk.shop.database) as session:
        job = jobs.fine_tune(session, job_id)
        jobs.add_event(session, job, ProgressEvent(seq, clock.now().isoformat(), "info", type, "", data))


def hold(desk: Desk, job_id: UUID) -> bool:
    with unit_of_work(desk.shop.database) as session:
        return budget_hold.hold(session, job_id, clock.now())


def succeed(desk: Desk, job_id: UUID, tokens: int) -> None:
    id = ids.uuid7()
    adapter = NewAdapter(id, f"ft:{id.hex}", id.hex, "x/", "0" * 64, 8, 1)
    with unit_of_work(desk.shop.database) as session:
        assert jobs.succeed(session, jobs.fine_tune(session, job_id), adapter, tokens)


def test_what_a_budget_does_not_reach_for_is_not_trained_and_not_billed(
    desk: Desk, budget: SetBudget, tmp_path: Path
) -> None:
    budget("monthly", "100")
    budget("prepaid", "1.25", of_key=True)
    job_id = desk.job()
    outcome = run_fine_tune(with_trainer(desk, tmp_path, "counts and hangs"), job_id)
    message = (
        "The credit of this API key does not reach: 1.25 of 1.25 EUR is left here, and this training of 10,000 tokens"
        " costs 1.5 EUR. Nothing is billed. To train, use another key, or ask your operator for more credit."
    )
    assert outcome == Outcome("failed", message, "insufficient_quota"), "its trainer would have gone on for minutes"
    assert desk.row(job_id).error == {"code": "insufficient_quota", "message": message, "param": None}
    assert usage(desk) == []
    assert not any(held for _, held in accounts(desk).values()), "what another budget had granted is free again"


def test_it_is_held_once_by_each_budget_however_often_the_run_dies_and_becomes_what_was_trained(
    desk: Desk, budget: SetBudget, tmp_path: Path
) -> None:
    budgets = [budget("monthly", "1000"), budget("prepaid", "1.50", of_key=True)]
    job_id, shop = desk.job(), with_trainer(desk, tmp_path, "counts and dies")
    for _ in range(2):
        with pytest.raises(TrainerDied):
            run_fine_tune(shop, job_id)
        assert accounts(desk) == dict.fromkeys(budgets, (Decimal(0), COST)), "and no more, though there is plenty"
        with unit_of_work(shop.database) as session:
            jobs.retry(session, job_id)
    with unit_of_work(shop.database) as session:
        jobs.cancel(session, job_id)
        jobs.cancel(session, job_id)
    (event,) = usage(desk)
    assert event.prompt_tokens == TOKENS // 2
    assert accounts(desk) == dict.fromkeys(budgets, (COST / 2, Decimal(0)))


def test_a_job_that_failed_gives_back_all_that_it_held(desk: Desk, budget: SetBudget) -> None:
    id = budget("prepaid", "2")
    job_id = desk.job()
    assert not hold(desk, job_id), "its trainer has not counted yet"
    says(desk, job_id, 1, "message", **{TOKENS_TO_TRAIN: TOKENS})
    assert hold(desk, job_id)
    assert accounts(desk) == {id: (Decimal(0), COST)}
    with unit_of_work(desk.shop.database) as session:
        jobs.give_up(session, job_id)
    assert accounts(desk) == {id: (Decimal(0), Decimal(0))}


def test_what_running_gateways_hold_may_come_back(desk: Desk, budget: SetBudget) -> None:
    id, gateway = budget("prepaid", "2"), ids.uuid7()
    now = clock.now()
    with unit_of_work(desk.shop.database) as session:
        session.execute(
            insert(UsageSource).values(
                id=gateway, name="gateway", opened_at=now, last_seq=0, pending=0, heartbeat_at=now
            )
        )
        period = session.scalars(select(Budget.created_at).where(Budget.id == id)).one().date()
        account = {"budget": id, "period": period, "source": gateway}
        session.execute(text("select draw_budget(:budget, :period, :source, 1)"), account)
    job_id = desk.job()
    says(desk, job_id, 1, "message", **{TOKENS_TO_TRAIN: TOKENS})
    with pytest.raises(BudgetShort) as short:
        hold(desk, job_id)
    assert short.value.may_come_back
    with unit_of_work(desk.shop.database) as session:
        session.execute(text("select return_to_budget(:budget, :period, :source, 1)"), account)
    assert hold(desk, job_id)


def test_a_quoted_job_is_held_and_spent_at_its_quote_and_never_above_it(
    desk: Desk, budget: SetBudget, database: TestDatabase
) -> None:
    """The price has risen since; and of the second job the trainer has read more than was quoted."""
    id, since = budget("prepaid", "1000"), clock.now() - timedelta(minutes=1)
    quoted = [_quoted(desk, database, max_cost, since - timedelta(minutes=1)) for max_cost in ("5.00", "0.90")]
    with database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update prices set valid_until = %s where unit = 'training' and currency = 'EUR'", [since])
        connection.execute(
            "insert into prices (currency, variant_id, unit, per_million, valid_from)"
            " select currency, variant_id, unit, 10 * per_million, valid_until from prices where valid_until = %s",
            [since],
        )
    spent = Decimal(0)
    for job_id, cost in zip(quoted, (COST, Decimal("0.90")), strict=True):
        says(desk, job_id, 1, "message", **{TOKENS_TO_TRAIN: TOKENS})
        assert hold(desk, job_id)
        assert accounts(desk) == {id: (spent, cost)}
        says(desk, job_id, 2, "metrics", step=1, trained_tokens=TOKENS)
        succeed(desk, job_id, TOKENS)
        spent += cost
        assert accounts(desk) == {id: (spent, Decimal(0))}
    with unit_of_work(desk.shop.database) as session:
        of_first = event_id(quoted[0], desk.row(quoted[0]).created_at)
        document = receipt.document_of(session, desk.tenant_id, of_first, "key")
    assert document is not None
    assert (document["amount"], document["lines"][0]["basis"].split("_")[0]) == ("1.500000000000", "quote qte")


def test_a_budget_that_began_after_the_job_was_asked_for_does_not_hold_it(desk: Desk, budget: SetBudget) -> None:
    job_id = desk.job()
    budget("prepaid", "0.01")
    says(desk, job_id, 1, "message", **{TOKENS_TO_TRAIN: TOKENS})
    assert hold(desk, job_id)
    assert accounts(desk) == {}


def _quoted(desk: Desk, database: TestDatabase, max_cost: str, priced_at: datetime) -> UUID:
    """A job of now with a quote of then."""
    job_id, id, engine = desk.job(), ids.uuid7(), engine_for(database.url("gateway"))
    job = desk.row(job_id)
    with tenant_scope(engine, desk.tenant_id) as session:
        session.add(
            Quote(
                id=id, tenant_id=desk.tenant_id, variant_id=job.variant_id, input_file_id=job.training_file_id,
                endpoint=ENDPOINT, currency="EUR", max_cost=Decimal(max_cost), priced_at=priced_at,
                valid_until=priced_at + timedelta(days=1), document={},
            )
        )  # fmt: skip
    engine.dispose()
    with unit_of_work(desk.shop.database) as session:
        session.execute(update(FineTuningJob).where(FineTuningJob.id == job_id).values(quote_id=id))
    return job_id

"""Batches as a customer has them: through the official SDK, with workers that may die. Dagster takes no part."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from decimal import Decimal

import openai
import psycopg
import pytest
from openai.types import Batch

from studio import ids
from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving.batches.books import (
    billed_tokens,
    crashed_workers,
    engine_prompt_tokens,
    engine_tokens,
    events_of,
    request_ids_of,
    serving_engine,
    unbilled_tokens,
    workers_of,
)
from tests.serving.batches.conftest import Customer, wait_for_key
from tests.serving.batches.orders import line, results, submit, wait_for_state
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, wait_until
from tests.serving.ledger import numbers_have_no_gap


def test_every_line_is_answered_once_and_billed_once(sdk: openai.OpenAI, batch_workers: Workers, house: House) -> None:
    with serving_engine(house, cached=1) as engine:
        batch = submit(sdk, (line(f"a-{n}") for n in range(45)), metadata={"order": "7"})
        assert (batch.status, batch.metadata) == ("validating", {"order": "7"})
        batch_workers.drain()
        assert billed_tokens(house, batch) == engine_tokens(engine)
    done = sdk.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (45, 45, 0)
    assert done.error_file_id is None
    answered = results(sdk, done.output_file_id)
    assert {one["custom_id"] for one in answered} == {f"a-{n}" for n in range(45)}
    assert len(answered) == 45
    assert {(one["response"]["status_code"], one["response"]["body"]["model"]) for one in answered} == {(200, CHAT)}
    assert all(one["error"] is None for one in answered)
    assert {one["response"]["request_id"] for one in answered} == request_ids_of(house, batch)
    assert done.usage is not None
    assert done.usage.total_tokens == billed_tokens(house, batch)
    assert (events_of(house, batch), unbilled_tokens(house, batch)) == (45, 0)
    assert numbers_have_no_gap(house.database)
    output = sdk.files.retrieve(str(done.output_file_id))
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_embeddings_and_completions_run_as_batches_too(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house), serving_engine(house, EMBEDDING):
        vectors = submit(sdk, [line("v", url="/v1/embeddings", model=EMBEDDING, input=["a", "b c"])], "/v1/embeddings")
        texts = submit(sdk, [line("t", url="/v1/completions", prompt="a b")], "/v1/completions")
        batch_workers.drain()
    (vector,) = results(sdk, sdk.batches.retrieve(vectors.id).output_file_id)
    (text,) = results(sdk, sdk.batches.retrieve(texts.id).output_file_id)
    assert len(vector["response"]["body"]["data"]) == 2
    assert text["response"]["body"]["object"] == "text_completion"


def test_a_prompt_of_several_choices_is_paid_once_and_reconciled_as_the_engine_counts_it(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house) as engine:
        batch = submit(sdk, [line("n", n=3)])
        batch_workers.drain()
        counters = engine.counters()
    usage = sdk.batches.retrieve(batch.id).usage
    assert usage is not None
    assert (usage.input_tokens * 3, usage.output_tokens) == (counters.prompt_tokens, counters.generation_tokens)
    assert engine_prompt_tokens(house, batch) == counters.prompt_tokens


def test_a_worker_killed_in_mid_batch_loses_and_doubles_nothing(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house, tokens_per_second=100) as engine:
        batch = submit(sdk, (line(f"k-{n}", max_tokens=20 + n % 30) for n in range(120)))
        first = batch_workers.start()
        wait_until(lambda: _completed(sdk, batch) >= 20, 60)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert 0 < events_of(house, batch) < 120
        batch_workers.drain()
        done = wait_for_state(sdk, batch, "completed")
        lost = engine_tokens(engine) - billed_tokens(house, batch)
    answered = Counter(one["custom_id"] for one in results(sdk, done.output_file_id))
    assert answered == {f"k-{n}": 1 for n in range(120)}
    assert events_of(house, batch) == 120
    assert lost > 0  # the kill cut lines in flight
    # What was answered and noted is known as unbilled. The engine alone knows of lines in flight, at most eight, and of
    # those answered since the last note, at most as many again.
    assert 0 <= lost - unbilled_tokens(house, batch) <= 2 * 8 * (50 + 2)
    assert numbers_have_no_gap(house.database)
    assert crashed_workers(house) == 1


def test_a_worker_that_sleeps_through_its_lease_doubles_nothing(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house, tokens_per_second=50):
        batch = submit(sdk, (line(f"z-{n}", max_tokens=20) for n in range(160)))
        sleeper = batch_workers.start()
        wait_until(lambda: _completed(sdk, batch) >= 20, 60)
        _freeze_in_a_transaction(sleeper, house)
        batch_workers.drain()  # the lease runs out, as the test's pace has it, while the rest is done
        done = wait_for_state(sdk, batch, "completed")
        sleeper.send_signal(signal.SIGCONT)
        batch_workers.wait(sleeper)
    answered = Counter(one["custom_id"] for one in results(sdk, done.output_file_id))
    assert answered == {f"z-{n}": 1 for n in range(160)}
    assert (events_of(house, batch), workers_of(house, batch)) == (160, 2)
    assert sdk.batches.retrieve(batch.id) == done
    assert numbers_have_no_gap(house.database)


def test_two_workers_share_a_batch(sdk: openai.OpenAI, batch_workers: Workers, house: House) -> None:
    with serving_engine(house, tokens_per_second=50) as engine:
        batch = submit(sdk, (line(f"s-{n}", max_tokens=20) for n in range(240)))
        workers = [batch_workers.start() for _ in range(2)]
        for worker in workers:
            batch_workers.wait(worker)
        assert billed_tokens(house, batch) == engine_tokens(engine)
    done = sdk.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert len({one["custom_id"] for one in results(sdk, done.output_file_id)}) == 240
    assert (events_of(house, batch), workers_of(house, batch)) == (240, 2)


def test_a_worker_that_is_told_to_stop_keeps_what_is_finished(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house, tokens_per_second=100) as engine:
        batch = submit(sdk, (line(f"t-{n}", max_tokens=20) for n in range(100)))
        worker = batch_workers.start()
        wait_until(lambda: engine.counters().generation_tokens > 200, 60)
        worker.terminate()
        batch_workers.wait(worker)
        assert billed_tokens(house, batch) == engine_tokens(engine)
        assert 0 < events_of(house, batch) < 100
        batch_workers.drain()
        assert billed_tokens(house, batch) == engine_tokens(engine)
    done = sdk.batches.retrieve(batch.id)
    assert len({one["custom_id"] for one in results(sdk, done.output_file_id)}) == 100
    assert unbilled_tokens(house, batch) == 0


def test_a_cancelled_batch_keeps_and_bills_what_is_finished(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house, tokens_per_second=50) as engine:
        batch = submit(sdk, (line(f"c-{n}", max_tokens=20) for n in range(100)))
        worker = batch_workers.start()
        wait_until(lambda: _completed(sdk, batch) >= 20, 60)
        assert sdk.batches.cancel(batch.id).status == "cancelling"
        batch_workers.wait(worker)
        assert billed_tokens(house, batch) == engine_tokens(engine)
    done = sdk.batches.retrieve(batch.id)
    assert done.status == "cancelled"
    assert done.cancelled_at is not None
    answered, left = results(sdk, done.output_file_id), results(sdk, done.error_file_id)
    assert 20 <= len(answered) < 100
    assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
    assert {one["custom_id"] for one in (*answered, *left)} == {f"c-{n}" for n in range(100)}
    assert events_of(house, batch) == len(answered)
    assert sdk.batches.cancel(batch.id).status == "cancelled"


def test_a_batch_waits_until_its_model_is_awake(sdk: openai.OpenAI, batch_workers: Workers, house: House) -> None:
    batch = submit(sdk, [line("early")])
    batch_workers.drain()
    assert sdk.batches.retrieve(batch.id).status == "in_progress"
    with serving_engine(house):
        batch_workers.drain()
    assert sdk.batches.retrieve(batch.id).status == "completed"


def test_a_batch_that_is_over_its_time_ends_with_what_it_has(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    batch = submit(sdk, [line("late")], window="1h")
    batch_workers.drain()
    with house.database.superuser() as connection:
        connection.execute(
            "update batches set expires_at = now() - interval '1 second' where id = %s",
            [ids.from_wire(ids.BATCH, batch.id)],
        )
    batch_workers.drain()
    done = sdk.batches.retrieve(batch.id)
    assert (done.status, done.output_file_id) == ("expired", None)
    (left,) = results(sdk, done.error_file_id)
    assert (left["custom_id"], left["error"]["code"]) == ("late", "batch_expired")


def test_a_line_that_the_engine_refuses_fails_alone_and_costs_nothing(
    sdk: openai.OpenAI, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house):
        batch = submit(sdk, [line("good"), line("bad", min_tokens="many")])
        batch_workers.drain()
    done = sdk.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)
    (refused,) = results(sdk, done.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("bad", 400)
    assert refused["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert events_of(house, batch) == 1


def test_an_engine_that_dies_costs_no_line(sdk: openai.OpenAI, batch_workers: Workers, house: House) -> None:
    with serving_engine(house, tokens_per_second=50) as dying, serving_engine(house, tokens_per_second=50):
        batch = submit(sdk, (line(f"d-{n}", max_tokens=20) for n in range(60)))
        worker = batch_workers.start()
        wait_until(lambda: dying.counters().generation_tokens > 0, 60)
        dying.kill()
        batch_workers.wait(worker)
    done = sdk.batches.retrieve(batch.id)
    assert done.request_counts is not None
    assert (done.status, done.request_counts.completed) == ("completed", 60)


def test_a_deleted_input_file_does_not_stop_its_batch(sdk: openai.OpenAI, batch_workers: Workers, house: House) -> None:
    batch = submit(sdk, [line("kept")])
    sdk.files.delete(batch.input_file_id)
    with serving_engine(house):
        batch_workers.drain()
    assert sdk.batches.retrieve(batch.id).status == "completed"


def test_a_batch_whose_input_is_being_deleted_is_not_created(sdk: openai.OpenAI, house: House) -> None:
    file = sdk.files.create(file=("a.jsonl", line("a").encode()), purpose="batch")
    with ThreadPoolExecutor() as pool, house.database.superuser() as connection:
        with connection.transaction():
            connection.execute("update files set deleted_at = now() where id = %s", [ids.from_wire(ids.FILE, file.id)])
            creating = pool.submit(
                sdk.batches.create,
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
            with pytest.raises(FutureTimeout):
                creating.result(timeout=0.5)
        with pytest.raises(openai.BadRequestError, match="No such File"):
            creating.result(timeout=10)


def test_a_batch_shows_the_model_that_its_lines_name(customer: Customer, batch_workers: Workers, house: House) -> None:
    name, tenant_id = f"ft:{CHAT}:{customer.tenant_id.hex[-8:]}::1", customer.tenant_id
    file = customer.sdk.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    with house.database.superuser() as connection:
        job = connection.execute(
            "insert into fine_tuning_jobs (tenant_id, api_key_id, variant_id, training_file_id, seed, hyperparameters,"
            " state) values (%s, %s, %s, %s, 1, '{}', 'succeeded') returning id",
            [tenant_id, customer.key.id, CHAT, ids.from_wire(ids.FILE, file.id)],
        ).fetchone()
        assert job is not None
        connection.execute(
            "insert into adapters (tenant_id, job_id, variant_id, name, engine_name, object_prefix, sha256, rank,"
            " size_bytes) values (%s, %s, %s, %s, %s, '', '', 8, 1)",
            [tenant_id, job[0], CHAT, name, job[0].hex],
        )
    batch = submit(customer.sdk, [line("tuned", model=name)])
    batch_workers.drain()
    assert _model(customer.sdk, batch) == ("in_progress", name)


def test_batches_of_another_tenant_do_not_exist(sdk: openai.OpenAI, rival: Customer) -> None:
    batch = submit(sdk, [line("mine")])
    assert [one.id for one in sdk.batches.list()] == [batch.id]
    assert list(rival.sdk.batches.list()) == []
    for forbidden in (rival.sdk.batches.retrieve, rival.sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            forbidden(batch.id)
    with pytest.raises(openai.BadRequestError, match="No such File"):
        rival.sdk.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )


def test_a_batch_spends_a_budget_to_its_end_and_no_further(
    customer: Customer, batch_workers: Workers, batch_gateway: GatewayProcess, house: House
) -> None:
    with unit_of_work(house.operator) as session:
        purse = create_key(session, customer.tenant_id, "purse", "tests")
        session.flush()
        put_budget(session, customer.tenant_id, purse.id, "prepaid", Decimal("0.10"), "tests")
    wait_for_key(batch_gateway, purse)
    client = customer.sdk.with_options(api_key=purse.text)
    with serving_engine(house):
        batch = submit(client, (line(f"b-{n}", max_tokens=100) for n in range(20)))
        batch_workers.drain()
    done = client.batches.retrieve(batch.id)
    assert done.request_counts is not None
    assert done.request_counts.completed + done.request_counts.failed == 20
    refused = results(client, done.error_file_id)
    assert {one["response"]["body"]["error"]["code"] for one in refused} == {"credit_balance_exhausted"}
    assert done.usage is not None
    # Half of 0.0001 and 0.0002 EUR a token; the last lines may not be begun, since their bound is above their cost.
    spent = Decimal("0.00005") * done.usage.input_tokens + Decimal("0.0001") * done.usage.output_tokens
    assert Decimal("0.07") < spent <= Decimal("0.10")
    with house.database.superuser() as connection:
        settled = connection.execute(
            "select spent, (select count(*) from budget_draws) from budget_accounts join budgets b on b.id = budget_id"
            " where api_key_id = %s",
            (purse.id,),
        ).fetchall()
    assert settled == [(spent, 0)]


def test_a_list_of_batches_is_paged_newest_first(sdk: openai.OpenAI) -> None:
    made = [submit(sdk, [line("x")]).id for _ in range(5)]
    assert [one.id for one in sdk.batches.list(limit=2)] == made[::-1]  # the SDK turns the pages


def _model(sdk: openai.OpenAI, batch: Batch) -> tuple[str, str | None]:
    now = sdk.batches.retrieve(batch.id)
    return now.status, now.model


def _completed(sdk: openai.OpenAI, batch: Batch) -> int:
    counts = sdk.batches.retrieve(batch.id).request_counts
    return counts.completed if counts else 0


def _freeze_in_a_transaction(worker: subprocess.Popen[bytes], house: House) -> None:
    """Its next beat waits for a lock, and gets it when the worker cannot go on any more."""
    with house.database.superuser() as holder, house.database.superuser() as watcher, holder.transaction():
        holder.execute("lock table batch_shards in exclusive mode")
        wait_until(lambda: _has_a_waiter(watcher), 30)
        worker.send_signal(signal.SIGSTOP)


def _has_a_waiter(watcher: psycopg.Connection) -> bool:
    waiting = "select exists (select from pg_locks where not granted and relation = 'batch_shards'::regclass)"
    ((is_there,),) = watcher.execute(waiting)
    return bool(is_there)

"""Fine-tuning at the front door: OpenAI's SDK asks for a job, watches it, and calls what came out of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest
from sqlalchemy import Engine, insert, select, update

from local.objects import EmbeddedObjectStore
from studio import clock, ids
from studio.adapters import ADAPTER_FILES
from studio.budgets import put_budget
from studio.db.catalog import Quote
from studio.db.jobs import Adapter, File, FineTuningEvent, FineTuningJob, LoadedAdapter
from studio.db.sessions import engine_for, tenant_scope, unit_of_work
from studio.db.usage import UsageEvent
from studio.fine_tuning.hyperparameters import Hyperparameters
from studio.objects import Bucket
from studio.settings import REPOSITORY
from studio.signing import is_signed
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.local.servers import client as store_client
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def gateway(
    house: House, engine: StubEngine, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A gateway with an object store, from which deleted models vanish."""
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway"), settings=objects.environment) as process:
        yield process


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Engine]:
    """The role that does the work, here to play its part."""
    engine = engine_for(house.database.url("worker"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def file(house: House, worker: Engine) -> str:
    """A file of the tenant for training."""
    return ids.to_wire(ids.FILE, add_file(worker, house.tenant_id))


@pytest.fixture(scope="module")
def other(house: House, gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    """Another tenant."""
    tenant_id = new_tenant(house.operator, "rival")
    with unit_of_work(house.operator) as session:
        key = create_key(session, tenant_id, "test", "tests")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.text, max_retries=0) as client:
        wait_until(lambda: _knows(client))
        yield client


def add_file(worker: Engine, tenant_id: UUID, purpose: str = "fine-tune") -> UUID:
    id = ids.uuid7()
    row = {"id": id, "tenant_id": tenant_id, "filename": "orders.jsonl", "purpose": purpose}
    with unit_of_work(worker) as session:
        session.execute(insert(File).values(**row, size_bytes=1, sha256="0" * 64, object_key=f"{tenant_id.hex}/{id}"))
    return id


def _knows(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True


class TestCreate:
    def test_without_a_key_is_401(self, stranger: httpx.Client) -> None:
        assert stranger.post(JOBS, json={}).status_code == 401

    def test_the_sdk_gets_a_job_and_finds_it_again(self, sdk: openai.OpenAI, file: str) -> None:
        job = sdk.fine_tuning.jobs.create(
            model=CHAT,
            training_file=file,
            suffix="orders",
            seed=7,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
            metadata={"team": "sales"},
        )
        assert (job.status, job.model, job.seed, job.fine_tuned_model) == ("validating_files", CHAT, 7, None)
        assert job.hyperparameters.n_epochs == 2
        assert job.hyperparameters.batch_size == "auto"
        assert sdk.fine_tuning.jobs.retrieve(job.id) == job
        assert job.id in [listed.id for listed in sdk.fine_tuning.jobs.list()]

    @pytest.mark.parametrize("model", [CHAT_FAST, EMBEDDING, "qwen3-32b"])
    def test_a_model_that_takes_no_adapters_is_refused(self, sdk: openai.OpenAI, file: str, model: str) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.fine_tuning.jobs.create(model=model, training_file=file)
        assert refused.value.param == "model"

    def test_an_unknown_model_is_404(self, sdk: openai.OpenAI, file: str) -> None:
        with pytest.raises(openai.NotFoundError):
            sdk.fine_tuning.jobs.create(model="no-such-model", training_file=file)

    def test_a_file_that_is_not_for_training_is_refused(
        self, sdk: openai.OpenAI, other: openai.OpenAI, house: House, worker: Engine, file: str
    ) -> None:
        for_batches, expired = add_file(worker, house.tenant_id, "batch"), add_file(worker, house.tenant_id)
        with unit_of_work(worker) as session:
            session.execute(update(File).where(File.id == expired).values(expires_at=clock.now()))
        unusable = [ids.to_wire(ids.FILE, id) for id in (for_batches, expired, ids.uuid7())]
        wrong = [(sdk, id) for id in (*unusable, "file-x", "../etc/passwd")]
        for client, id in [*wrong, (other, file)]:
            with pytest.raises(openai.BadRequestError) as refused:
                client.fine_tuning.jobs.create(model=CHAT, training_file=id)
            assert (refused.value.code, refused.value.param) == ("invalid_file", "training_file")

    @pytest.mark.parametrize(
        "change",
        [
            {"suffix": "../../adapters/x"},
            {"suffix": "a:b"},
            {"validation_file": ""},
            {"suffix": "x" * 65},
            {"seed": -1},
            {"hyperparameters": {"n_epochs": 51}},
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            {"method": {"type": "dpo"}},
            {"metadata": {str(number): "" for number in range(17)}},
            {"integrations": [{"type": "wandb"}]},
        ],
    )
    def test_what_cannot_be_right_is_400(self, api: httpx.Client, file: str, change: dict[str, object]) -> None:
        answer = api.post(JOBS, json={"model": CHAT, "training_file": file} | change)
        assert answer.status_code == 400, answer.text


class TestOneJob:
    @pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
    def test_both_strangers(
        self, sdk: openai.OpenAI, other: openai.OpenAI, stranger: httpx.Client, file: str, method: str, path: str
    ) -> None:
        job = sdk.fine_tuning.jobs.create(model=CHAT, training_file=file)
        assert stranger.request(method, f"{JOBS}/{job.id}{path}").status_code == 401
        key = {"authorization": f"Bearer {other.api_key}"}
        for id in (job.id, "ftjob-x", f"ftjob-{ids.uuid7().hex}"):
            assert stranger.request(method, f"{JOBS}/{id}{path}", headers=key).status_code == 404
        assert job.id not in [listed.id for listed in other.fine_tuning.jobs.list()]

    def test_it_can_be_cancelled_until_it_has_ended(self, sdk: openai.OpenAI, worker: Engine, file: str) -> None:
        job = sdk.fine_tuning.jobs.create(model=CHAT, training_file=file)
        sdk.fine_tuning.jobs.cancel(job.id)
        id = ids.from_wire(ids.FINE_TUNING_JOB, job.id)
        with unit_of_work(worker) as session:
            asked = session.scalar(select(FineTuningJob.cancel_requested_at).where(FineTuningJob.id == id))
            session.execute(update(FineTuningJob).where(FineTuningJob.id == id).values(state="cancelled"))
        assert asked is not None
        with pytest.raises(openai.ConflictError):
            sdk.fine_tuning.jobs.cancel(job.id)

    def test_events_come_newest_first_in_pages(
        self, sdk: openai.OpenAI, house: House, worker: Engine, file: str
    ) -> None:
        job = sdk.fine_tuning.jobs.create(model=CHAT, training_file=file)
        row = {"job_id": ids.from_wire(ids.FINE_TUNING_JOB, job.id), "tenant_id": house.tenant_id, "at": clock.now()}
        with unit_of_work(worker) as session:
            for seq in range(1, 6):
                data = {"step": seq, "train_loss": 1 / seq}
                values = {"level": "info", "type": "metrics", "message": f"Step {seq}", "data": data}
                session.execute(insert(FineTuningEvent).values(**row, seq=seq, **values))
        page = sdk.fine_tuning.jobs.list_events(job.id, limit=2)
        assert page.has_more
        assert [event.message for event in page] == ["Step 5", "Step 4", "Step 3", "Step 2", "Step 1"]


def examples(*questions: str) -> bytes:
    """A data set whose answers have one word: the stub's tokens are words."""
    answer = {"role": "assistant", "content": "yes", "weight": 1}
    conversations = [[{"role": "user", "content": question}, answer] for question in questions]
    return b"".join(json.dumps({"messages": messages}).encode() + b"\n" for messages in conversations)


class TestQuoted:
    @pytest.fixture(scope="class")
    def uploaded(self, gateway: GatewayProcess, house: House) -> str:
        """Eleven examples of three tokens, and one that is cut at 1,024."""
        return self.upload(gateway, house, examples(*["one two"] * 11, "word " * 2_000))

    @staticmethod
    def upload(gateway: GatewayProcess, house: House, content: bytes) -> str:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=house.key.text) as client:
            return client.files.create(file=("orders.jsonl", content), purpose="fine-tune").id

    def test_it_is_counted_signed_and_used_by_one_job(
        self, api: httpx.Client, gateway: GatewayProcess, house: House, uploaded: str
    ) -> None:
        what = {"training_file": uploaded, "model": CHAT}
        answer = api.post("/v1/quotes", json=what | {"n_epochs": 2})
        assert answer.status_code == 201, answer.text
        quote = answer.json()
        document = json.loads(quote["document"])
        tokens = 11 * 3 + 1_024
        counted = [document[name] for name in ("examples", "example_tokens", "n_epochs", "tokens")]
        assert counted == [12, tokens, 2, 2 * tokens]
        assert document["prices"]["training"]["per_million"] == "150.00"
        assert (quote["max_cost"], quote["currency"]) == ("0.32", "EUR"), "0.3171, in whole cents"
        told = [quote[name] for name in ("training_file", "n_epochs", "input_file_id", "endpoint", "model")]
        assert told == [uploaded, 2, None, JOBS, CHAT]
        keys = api.get("/.well-known/studio-signing-keys").json()["data"]
        (pem,) = [key["public_key"] for key in keys if key["id"] == quote["key_id"]]
        assert is_signed(quote["document"].encode(), base64.b64decode(quote["signature"]), pem)
        assert api.get(f"/v1/quotes/{quote['id']}").json() == quote

        order = {"model": CHAT, "training_file": uploaded, "quote_id": quote["id"]}
        elsewhere = self.upload(gateway, house, examples(*["three"] * 10))
        changes: list[tuple[dict[str, Any], str]] = [
            ({"training_file": elsewhere}, "another file"),
            ({"hyperparameters": {"n_epochs": 3}}, "for 2 epochs, and 3 are asked for"),
        ]
        for change, words in changes:
            refused = api.post(JOBS, json=order | change)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "quote_id")
            assert words in refused.json()["error"]["message"]
        job = api.post(JOBS, json=order)
        assert job.status_code == 200, job.text
        assert (job.json()["quote_id"], job.json()["hyperparameters"]["n_epochs"]) == (quote["id"], 2)
        assert api.get(f"{JOBS}/{job.json()['id']}").json() == job.json()
        assert api.post(JOBS, json=order).status_code == 409
        batch = {"input_file_id": uploaded, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert api.post("/v1/batches", json=batch | {"quote_id": quote["id"]}).status_code == 400

    def test_auto_is_what_the_job_would_resolve_it_to(self, api: httpx.Client, uploaded: str) -> None:
        quote = api.post("/v1/quotes", json={"training_file": uploaded, "model": CHAT, "n_epochs": "auto"}).json()
        assert quote["n_epochs"] == Hyperparameters.resolve({}, 12).n_epochs == 25
        assert quote["max_cost"] == "3.97"  # 25 times 1,057 tokens at 150 EUR a million: 3.96375

    def test_an_expired_one_is_refused(self, api: httpx.Client, house: House, uploaded: str) -> None:
        began, id = clock.now() - timedelta(days=2), ids.uuid7()
        engine = engine_for(house.database.url("gateway"))
        with tenant_scope(engine, house.tenant_id) as session:
            session.add(
                Quote(
                    id=id, tenant_id=house.tenant_id, variant_id=CHAT, input_file_id=ids.from_wire(ids.FILE, uploaded),
                    endpoint=JOBS, currency="EUR", max_cost=Decimal(1), priced_at=began,
                    valid_until=began + timedelta(days=1), document={"n_epochs": 1},
                )
            )  # fmt: skip
        engine.dispose()
        order = {"model": CHAT, "training_file": uploaded, "quote_id": ids.to_wire(ids.QUOTE, id)}
        refused = api.post(JOBS, json=order)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
        assert "has expired" in refused.json()["error"]["message"]

    def test_what_would_fail_the_job_and_what_is_not_one_of_both_is_said(
        self, api: httpx.Client, other: openai.OpenAI, gateway: GatewayProcess, house: House, uploaded: str
    ) -> None:
        def refusal(**what: Any) -> tuple[int, str, str | None]:
            answer = api.post("/v1/quotes", json=what)
            return answer.status_code, answer.json()["error"]["message"], answer.json()["error"]["param"]

        broken = self.upload(gateway, house, examples(*["one"] * 10) + b"{}\n")
        status, message, param = refusal(training_file=broken, model=CHAT)
        assert (status, param) == (400, "training_file")
        assert "line 11:" in message
        long = self.upload(gateway, house, examples(*["one"] * 2_001))
        assert "2,001 examples; a quote is given for 2,000 at most" in refusal(training_file=long, model=CHAT)[1]
        assert refusal(training_file=uploaded, model=EMBEDDING)[2] == "model"
        for neither in ({}, {"training_file": uploaded}, {"training_file": uploaded, "model": CHAT, "endpoint": JOBS}):
            status, message, _ = refusal(**neither)
            assert (status, message.split(",")[0]) == (400, "Give `input_file_id` and `endpoint` for a batch")
        key = {"authorization": f"Bearer {other.api_key}"}
        hidden = api.post("/v1/quotes", json={"training_file": uploaded, "model": CHAT}, headers=key)
        assert (hidden.status_code, hidden.json()["error"]["param"]) == (400, "training_file")


def test_the_command_trains_only_if_the_quote_is_within_what_is_given(
    gateway: GatewayProcess, house: House, tmp_path: Path
) -> None:
    data = tmp_path / "orders.jsonl"
    data.write_bytes(examples(*["word " * 2_000] * 10))
    shell = os.environ | {"STUDIO_GATEWAY_URL": gateway.url, "STUDIO_API_KEY": house.key.text}

    def studio(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "local", "finetune", *arguments, str(data), "--model", CHAT, "--epochs", "1"]
        return subprocess.run(argv, cwd=REPOSITORY, env=shell, capture_output=True, text=True, check=False)

    assert "1.54 EUR at most, net" in studio("quote").stdout
    refused = studio("create", "--at-most", "1.53")
    assert refused.returncode != 0
    assert "The fine-tune may cost 1.54 EUR, more than 1.53; nothing was run." in " ".join(refused.stderr.split())
    assert json.loads(studio("create", "--at-most", "1.54", "--json").stdout)["quote_id"].startswith("qte_")


def test_a_budget_that_is_wholly_spent_takes_no_job(gateway: GatewayProcess, house: House, file: str) -> None:
    with unit_of_work(house.operator) as session:
        key = create_key(session, house.tenant_id, "poor", "tests")
        session.flush()
        put_budget(session, house.tenant_id, key.id, "prepaid", Decimal(0), "tests")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.text, max_retries=0) as poor:
        wait_until(lambda: _knows(poor))
        with pytest.raises(openai.RateLimitError) as refused:
            poor.fine_tuning.jobs.create(model=CHAT, training_file=file)
    assert refused.value.code == "insufficient_quota"
    assert "The credit of this API key is used up: 0 of 0 EUR is left here." in refused.value.message


class TestServed:
    @pytest.fixture(scope="class")
    def model(self, house: House, worker: Engine, engine: StubEngine, file: str) -> str:
        """A fine-tuned model of the tenant, loaded by one of two replicas."""
        job_id, adapter_id, name = ids.uuid7(), ids.uuid7(), f"ft:{CHAT}:acme:orders:1"
        having = attach(house.operator, engine.url)
        with unit_of_work(worker) as session:
            session.execute(
                insert(FineTuningJob).values(
                    id=job_id,
                    tenant_id=house.tenant_id,
                    api_key_id=house.key.id,
                    variant_id=CHAT,
                    training_file_id=ids.from_wire(ids.FILE, file),
                    seed=1,
                    hyperparameters={},
                    state="succeeded",
                )
            )
            session.execute(
                insert(Adapter).values(
                    id=adapter_id,
                    tenant_id=house.tenant_id,
                    job_id=job_id,
                    variant_id=CHAT,
                    name=name,
                    engine_name=f"{adapter_id.hex}-0123456789abcdef",
                    object_prefix="x/",
                    sha256="0" * 64,
                    rank=8,
                    size_bytes=1,
                )
            )
        node_agent = engine_for(house.database.url("node_agent"))
        with unit_of_work(node_agent) as session:
            session.execute(insert(LoadedAdapter).values(replica_id=having, adapter_id=adapter_id))
        node_agent.dispose()
        return name

    def test_its_tenant_sees_and_calls_it(self, sdk: openai.OpenAI, worker: Engine, model: str) -> None:
        wait_until(lambda: model in [one.id for one in sdk.models.list()])
        seen = sdk.models.retrieve(model)
        assert (seen.owned_by, seen.model_extra and seen.model_extra["parent"]) == ("acme", CHAT)
        answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        assert answer.model == model

        def events() -> list[tuple[str, UUID | None]]:
            columns = select(UsageEvent.variant_id, UsageEvent.adapter_id)
            with unit_of_work(worker) as session:
                rows = session.execute(columns.where(UsageEvent.adapter_id.is_not(None)))
                return [(variant_id, adapter_id) for variant_id, adapter_id in rows.tuples()]

        wait_until(lambda: len(events()) == 1)
        with unit_of_work(worker) as session:
            assert events() == [(CHAT, session.scalar(select(Adapter.id).where(Adapter.name == model)))]

    def test_for_anybody_else_it_does_not_exist(self, other: openai.OpenAI, model: str) -> None:
        assert model not in [one.id for one in other.models.list()]
        with pytest.raises(openai.NotFoundError):
            other.models.retrieve(model)
        with pytest.raises(openai.NotFoundError) as missing:
            other.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            other.models.delete(model)

    def test_a_path_is_no_name(self, sdk: openai.OpenAI, model: str) -> None:
        for name in ("../adapters/x", f"../{model}", f"/{model}"):
            with pytest.raises(openai.NotFoundError):
                sdk.chat.completions.create(model=name, messages=[{"role": "user", "content": "hello"}])

    def test_it_cannot_be_tuned_again_and_a_base_cannot_be_deleted(
        self, sdk: openai.OpenAI, file: str, model: str
    ) -> None:
        with pytest.raises(openai.BadRequestError):
            sdk.fine_tuning.jobs.create(model=model, training_file=file)
        with pytest.raises(openai.PermissionDeniedError):
            sdk.models.delete(CHAT)

    def test_deleted_it_is_gone_with_its_bytes(
        self, sdk: openai.OpenAI, objects: EmbeddedObjectStore, model: str
    ) -> None:
        store = store_client(objects, objects.secrets.s3_secret_key)
        for name in ADAPTER_FILES:
            store.put(Bucket.ADAPTERS, f"x/{name}", b"bytes")
        assert sdk.models.delete(model).deleted
        assert [store.get(Bucket.ADAPTERS, f"x/{name}") for name in ADAPTER_FILES] == [None, None]
        wait_until(lambda: model not in [one.id for one in sdk.models.list()])

"""Fine-tuning at the front door: OpenAI's SDK asks for a job, watches it, and calls what came out of it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import httpx
import openai
import pytest
from sqlalchemy import Engine, insert, select, update

from local.objects import EmbeddedObjectStore
from studio import clock, ids
from studio.adapters import ADAPTER_FILES
from studio.db.jobs import Adapter, File, FineTuningEvent, FineTuningJob, LoadedAdapter
from studio.db.sessions import engine_for, unit_of_work
from studio.db.usage import UsageEvent
from studio.objects import Bucket
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

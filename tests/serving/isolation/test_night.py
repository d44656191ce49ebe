"""The nightly probe on a real gateway: it passes where tenants are isolated, and is red where something is open."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import Engine, select, text, update

from billing import unsealed, windows
from billing.windows import NothingToSeal
from local.objects import EmbeddedObjectStore
from serving.isolation import canaries
from serving.isolation.night import Prober, Report, certify
from serving.isolation.probes import hidden
from studio import clock
from studio.db.fleet import Replica
from studio.db.sessions import engine_for, unit_of_work
from studio.db.tenancy import ApiKey, Tenant
from studio.signing import Signer
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.orchestration.location import Location
from tests.server import TestServer
from tests.serving.conftest import House, furnished
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

SIGNER = Signer(b"a secret of the tests")


@pytest.fixture(scope="module")
def house(server: TestServer) -> Iterator[House]:
    """With an engine that remembers prompts."""
    with furnished(server) as house, StubEngine(remember=True) as stub:
        attach(house.operator, stub.url)
        yield house


@pytest.fixture(scope="module")
def gateway(
    house: House, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """With an object store."""
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway"), settings=objects.environment) as process:
        yield process


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Engine]:
    """Dagster's role."""
    engine = engine_for(house.database.url("worker"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def prober(house: House, gateway: GatewayProcess, worker: Engine) -> Iterator[Prober]:
    """What probes this house."""
    as_gateway = engine_for(house.database.url("gateway"))
    yield Prober(worker, as_gateway, gateway.url, SIGNER)
    as_gateway.dispose()


@pytest.fixture(scope="module")
def neighbour(house: House) -> str:
    """The key of another customer, `globex`."""
    tenant_id = new_tenant(house.operator, "globex")
    with unit_of_work(house.operator) as session:
        return create_key(session, tenant_id, "theirs", "tests").text


@pytest.fixture(scope="module")
def night(prober: Prober, neighbour: str) -> Report:
    """A good night."""
    return certify(prober)


def get(gateway: GatewayProcess, key: str, path: str = "") -> httpx.Response:
    """A tenant's view of its certificates."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}/v1/isolation/certificates{path}", headers=headers)


def newest(gateway: GatewayProcess, key: str) -> dict[str, Any]:
    """A tenant's last certificate."""
    certificate: dict[str, Any] = get(gateway, key, "/" + get(gateway, key).json()["data"][0]["id"]).json()
    return certificate


def results(report: Report, subject: str) -> set[str]:
    """What came of the probes of one kind."""
    return {probe.result for probe in report.night.probes if probe.subject == subject}


def test_on_a_good_gateway_everything_is_probed_and_passes(night: Report) -> None:
    unhappy = [probe for probe in night.night.probes if probe.result != "passed"]
    assert not unhappy
    subjects = Counter(probe.subject for probe in night.night.probes)
    assert subjects.keys() == {
        *("rows", "files", "batches", "fine_tunes", "responses", "adapters", "keys", "usage", "cache")
    }
    assert night.issued == {"acme": "passed", "globex": "passed"}
    assert {probe.subject for probe in night.own["acme"]} == {"rows", "keys"}, "it has no file and no model"


def test_a_tenant_downloads_its_own_and_only_its_own(
    gateway: GatewayProcess, house: House, neighbour: str, night: Report
) -> None:
    certificate = newest(gateway, house.key.text)
    document = json.loads(certificate["document"])
    assert document["tenant"]["slug"] == "acme"
    assert (document["result"], certificate["result"]) == ("passed", "passed")
    assert document["id"] == certificate["id"]
    assert document["versions"].keys() == {"gateway", "schema", "postgresql"}
    assert {probe["subject"] for probe in document["canaries"]} >= {"rows", "cache", "keys"}
    assert get(gateway, neighbour, f"/{certificate['id']}").status_code == 404
    assert certificate["id"] not in {one["id"] for one in get(gateway, neighbour).json()["data"]}
    assert get(gateway, "nobody").status_code == 401
    assert get(gateway, house.key.text, "/iso_none").status_code == 404


def test_the_signature_holds_for_these_bytes_and_no_others(
    gateway: GatewayProcess, house: House, night: Report
) -> None:
    certificate = newest(gateway, house.key.text)
    keys = httpx.get(f"{gateway.url}/.well-known/studio-signing-keys").json()["data"]
    (pem,) = (key["public_key"] for key in keys if key["id"] == certificate["key_id"])
    public_key = load_pem_public_key(pem.encode())
    assert isinstance(public_key, Ed25519PublicKey)
    document, signature = certificate["document"].encode(), base64.b64decode(certificate["signature"])
    public_key.verify(signature, document)
    with pytest.raises(InvalidSignature):
        public_key.verify(signature, document.replace(b'"passed"', b'"Passed"', 1))
    with pytest.raises(InvalidSignature):
        public_key.verify(Signer(b"another secret").sign(document), document)


def test_canaries_leave_no_key_behind_and_are_never_billed(prober: Prober, night: Report) -> None:
    ours = select(Tenant.id).where(Tenant.slug.in_((canaries.STRANGER, canaries.OWNER)))
    with unit_of_work(prober.worker) as session:
        tenants = set(session.scalars(ours))
        alive = session.scalars(
            select(ApiKey.id).where(ApiKey.tenant_id.in_(tenants), ApiKey.revoked_at.is_(None))
        ).all()
        left = session.execute(
            text("select (select count(*) from files where deleted_at is null and tenant_id = any(:ours)),"
                 " (select count(*) from adapters where deleted_at is null and tenant_id = any(:ours))"),
            {"ours": list(tenants)},
        ).one()  # fmt: skip
    assert len(tenants) == 2
    assert alive == []
    assert tuple(left) == (0, 0)

    def used() -> set[UUID]:
        with unit_of_work(prober.worker) as session:
            return set(session.scalars(text("select tenant_id from usage_events")))

    wait_until(lambda: tenants <= used())
    with unit_of_work(prober.worker) as session:
        assert not tenants & {window.tenant_id for window in unsealed.of_all_days(session)}
        today = clock.now().astimezone(clock.BERLIN).date()
        for tenant in tenants:
            with pytest.raises(NothingToSeal, match="never billed"):
                windows.seal(
                    session, window_day=today, tenant_id=tenant, by="ops", reason="-", cutoff=clock.now(),
                    now=clock.now(),
                )  # fmt: skip


def test_a_cold_model_is_a_gap_and_no_pass(
    prober: Prober, house: House, gateway: GatewayProcess, night: Report
) -> None:
    def state(name: str) -> None:
        with unit_of_work(house.operator) as session:
            session.execute(update(Replica).values(state=name))
        headers = {"authorization": f"Bearer {house.key.text}"}
        warm = name == "ready"
        wait_until(
            lambda: (
                warm
                is any(
                    m["state"] == "warm" for m in httpx.get(f"{gateway.url}/v1/models", headers=headers).json()["data"]
                )
            )
        )

    state("stopped")
    try:
        report = certify(prober)
    finally:
        state("ready")
    (cache,) = (probe for probe in report.night.probes if probe.subject == "cache")
    assert (cache.result, cache.observed) == ("skipped", "no chat model is warm: closed or cold")
    assert report.issued == {"acme": "incomplete", "globex": "incomplete"}
    assert results(report, "files") == {"passed"}


def run_in_dagster(prober: Prober) -> dg.AssetCheckEvaluation:
    """The nightly job's verdict."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = Location({"isolation_prober": prober}, instance).run("certify_isolation")
    assert result.success, "a finding is no failure of the run"
    (check,) = result.get_asset_check_evaluations()
    return check


def test_a_gateway_without_salt_is_red(
    prober: Prober, house: House, objects: EmbeddedObjectStore, tmp_path: Path, night: Report
) -> None:
    with GatewayProcess(
        house.database, tmp_path, "tests.serving.without_salt", settings=objects.environment
    ) as careless:
        check = run_in_dagster(replace(prober, gateway_url=careless.url))
        document = json.loads(newest(careless, house.key.text)["document"])
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    (failed,) = check.metadata["failed"].value.records  # type: ignore[union-attr]  # a table, as written
    assert failed.data["subject"] == "cache"
    assert document["result"] == "failed"
    assert [probe["subject"] for probe in document["canaries"] if probe["result"] == "failed"] == ["cache"]


def test_a_policy_that_lets_others_read_is_red(prober: Prober, house: House, night: Report) -> None:
    with house.database.superuser() as connection:
        connection.execute("create policy open_to_all on api_keys for select to studio_gateway using (true)")
        try:
            check = run_in_dagster(prober)
        finally:
            connection.execute("drop policy open_to_all on api_keys")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    failed = [row.data for row in check.metadata["failed"].value.records]  # type: ignore[union-attr]
    assert {row["subject"] for row in failed} == {"rows"}
    assert {row["of"] for row in failed} == {"canaries", "acme", "globex"}
    assert all("api_keys" in str(row["observed"]) for row in failed)


@pytest.mark.parametrize(
    ("status", "result"),
    [(404, "passed"), (200, "failed"), (403, "failed"), (409, "failed"), (401, "skipped"), (503, "skipped")],
)
def test_only_404_is_silence_and_no_answer_proves_nothing(status: int, result: str) -> None:
    assert hidden("files", "-", status, "-").result == result


def test_a_key_with_a_cache_of_its_own_is_to_the_engine_like_a_tenant_of_its_own(
    house: House, gateway: GatewayProcess
) -> None:
    """The engine tells of each prompt whether it has seen it with the same salt."""
    with unit_of_work(house.operator) as session:
        owner = create_key(session, house.tenant_id, "owner", "tests", scopes=["inference", "keys"]).text

    def made_by(key: str, **wish: bool) -> dict[str, Any]:
        body = {"name": "made", "scopes": ["inference", "keys"]} | wish
        headers = {"authorization": f"Bearer {key}"}
        wait_until(lambda: httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200)
        made: dict[str, Any] = httpx.post(f"{gateway.url}/v1/keys", json=body, headers=headers).json()
        return made

    def is_known(key: str, **more: str) -> bool:
        headers = {"authorization": f"Bearer {key}"}
        wait_until(lambda: httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200)
        body = {"model": CHAT, "prompt": "a prompt of several words", "max_tokens": 1} | more
        usage = httpx.post(f"{gateway.url}/v1/completions", json=body, headers=headers).json()["usage"]
        return bool(usage["prompt_tokens_details"]["cached_tokens"])

    alone = made_by(owner, own_cache=True)
    shared, heir = made_by(owner), made_by(alone["key"])
    assert (alone["own_cache"], shared["own_cache"], heir["own_cache"]) == (True, False, True)
    assert [is_known(owner), is_known(shared["key"])] == [False, True]
    assert [is_known(alone["key"]), is_known(alone["key"])] == [False, True]
    assert not is_known(heir["key"]), "whom it makes is as alone"
    assert [is_known(alone["key"], cache_salt="x"), is_known(alone["key"], cache_salt="x")] == [False, True]
    assert not is_known(owner, cache_salt=alone["id"])
    listed = httpx.get(f"{gateway.url}/v1/keys", headers={"authorization": f"Bearer {owner}"}).json()["data"]
    assert {one["id"] for one in listed if one["own_cache"]} == {alone["id"], heir["id"]}


def test_a_door_that_is_shut_to_its_owner_proves_nothing() -> None:
    assert hidden("files", "-", 404, "-", skipped="the owner itself does not get it").result == "skipped"
    assert hidden("files", "-", 200, "-", skipped="the owner itself does not get it").result == "failed"


def test_without_a_gateway_nobody_gets_a_certificate(prober: Prober, house: House, gateway: GatewayProcess) -> None:
    before = get(gateway, house.key.text).json()
    with pytest.raises(httpx.ConnectError):
        certify(replace(prober, gateway_url="http://127.0.0.1:9"))
    assert get(gateway, house.key.text).json() == before
    with unit_of_work(prober.worker) as session:
        assert session.scalar(select(ApiKey.id).where(ApiKey.name.like("%probe"), ApiKey.revoked_at.is_(None))) is None


def test_a_customer_that_has_the_canarys_name_keeps_it(server: TestServer) -> None:
    with furnished(server) as house:
        new_tenant(house.operator, canaries.STRANGER)
        worker = engine_for(house.database.url("worker"))
        with pytest.raises(Exception, match="is not ours"), canaries.canaries(worker):
            pass
        worker.dispose()

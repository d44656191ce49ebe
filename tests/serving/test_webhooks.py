"""Alerts and webhooks: raised once, signed as the standard says, sent until they arrive, and never into our network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from serving.images import rules
from serving.images.rules import Address
from serving.webhooks.alerting import raise_and_tell
from serving.webhooks.sending import BACKOFF, Sender
from studio import clock, ids
from studio.budgets import put_budget
from studio.db.sessions import engine_for, unit_of_work
from studio.sealing import Seal
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, wait_until
from tests.tls import certificate_of

HOST, KEY = "hooks.test", "a key of the tests"


@dataclass
class Receiver:
    """Somebody's server: what it was sent, and what it answers."""

    port: int = 0
    status: int = 200
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_of(HOST, tmp_path_factory.mktemp("tls") / "hooks.pem")


@pytest.fixture
def receiver(certificate: Path) -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server's name
            body = self.rfile.read(int(self.headers["content-length"]))
            state.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(state.status)
            self.send_header("location", "https://elsewhere.test/")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = {"STUDIO_WEBHOOK_KEY": KEY}
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway"), settings=settings) as process:
        yield process


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Engine]:
    engine = engine_for(house.database.url("worker"))
    yield engine
    engine.dispose()


@pytest.fixture
def tenant(house: House, gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """HTTP as a tenant of its own, whose key may manage keys. Nothing of earlier tests waits any more."""
    with house.database.superuser() as connection:
        connection.execute("update webhook_messages set next_attempt_at = null")
    tenant_id = new_tenant(house.operator, f"t-{ids.uuid7().hex[:20]}")
    with unit_of_work(house.operator) as session:
        key = create_key(session, tenant_id, "test", "tests", scopes=["inference", "usage", "keys"]).text
    with httpx.Client(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=60
    ) as client:
        wait_until(lambda: client.get("/v1/models").status_code == 200)
        client.headers["x-tenant"] = str(tenant_id)
        yield client


def created(tenant: httpx.Client, house: House, receiver: Receiver | None = None) -> Any:
    """A webhook, which the test's own server answers."""
    answer = tenant.post("/v1/webhooks", json={"url": f"https://{HOST}/hook"})
    assert answer.status_code == 201, answer.text
    if receiver is not None:
        id = ids.from_wire(ids.WEBHOOK, answer.json()["id"])
        with house.database.superuser() as connection:
            where = f"https://{HOST}:{receiver.port}/hook"
            connection.execute("update webhooks set url = %s where id = %s", (where, id))
    return answer.json()


def sender(worker: Engine, certificate: Path, receiver: Receiver, addresses: tuple[str, ...] = ("127.0.0.1",),
           *, is_allowed: Any = lambda address: True) -> Sender:  # fmt: skip
    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address(address) for address in addresses]

    return Sender(
        worker, Seal(KEY.encode()), frozenset({f"{HOST}:{receiver.port}"}), resolve=resolve, is_allowed=is_allowed,
        tls=ssl.create_default_context(cafile=certificate),
    )  # fmt: skip


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Verification as the specification of Standard Webhooks describes it, with nothing of ours."""
    assert secret.startswith("whsec_")
    key = base64.b64decode(secret[len("whsec_") :])
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    given = [one.split(",", 1) for one in headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(value, expected) for version, value in given)


def spend(house: House, tenant: httpx.Client, share: str) -> None:
    """A monthly budget of 10, of which a share is spent."""
    tenant_id = tenant.headers["x-tenant"]
    with unit_of_work(house.operator) as session:
        budget_id = put_budget(session, UUID(tenant_id), None, "monthly", Decimal(10), "tests")
    month = clock.now().astimezone(clock.BERLIN).date().replace(day=1)
    with house.database.superuser() as connection:
        connection.execute("insert into budget_accounts (budget_id, period, spent) values (%s, %s, %s)"
                           " on conflict (budget_id, period) do update set spent = excluded.spent",
                           (budget_id, month, Decimal(share) * 10))  # fmt: skip


def look(worker: Engine) -> int:
    with unit_of_work(worker) as session:
        return len(raise_and_tell(session, clock.now(), with_mail=False))


def deliveries(tenant: httpx.Client, webhook: Any) -> Any:
    return tenant.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["data"]


def make_due(house: House) -> None:
    with house.database.superuser() as connection:
        connection.execute("update webhook_messages set next_attempt_at = now() where next_attempt_at is not null")


class TestAlerts:
    def test_each_threshold_once_however_many_look(self, house: House, worker: Engine, tenant: httpx.Client) -> None:
        webhook = created(tenant, house)
        spend(house, tenant, "0.79")
        assert look(worker) == 0
        spend(house, tenant, "0.80")
        with ThreadPoolExecutor(3) as threads:
            assert sum(threads.map(lambda _: look(worker), range(6))) == 1
        spend(house, tenant, "0.996")  # what is left is too little for any request
        assert (look(worker), look(worker)) == (1, 0)
        alerts = tenant.get("/v1/alerts").json()["data"]
        assert [(alert["percent"], alert["amount"], alert["used"]) for alert in alerts] == [
            (100, "10", "9.96"), (80, "10", "8"),
        ]  # fmt: skip
        assert [one["type"] for one in deliveries(tenant, webhook)] == ["budget.threshold_reached"] * 2

    def test_of_a_changed_budget_again_and_at_what_operators_set(
        self, house: House, worker: Engine, tenant: httpx.Client
    ) -> None:
        spend(house, tenant, "0.85")
        assert look(worker) == 1
        tenant_id = UUID(tenant.headers["x-tenant"])
        with unit_of_work(house.operator) as session:
            put_budget(session, tenant_id, None, "monthly", Decimal("8.53"), "tests")
        assert look(worker) == 2  # 80 and 100 %, rounded, of the new amount
        with unit_of_work(house.operator) as session:
            session.execute(text("update budgets set alert_percents = '{50, 99}' where tenant_id = :id"),
                            {"id": tenant_id})  # fmt: skip
        assert look(worker) == 2

    def test_of_another_tenant_do_not_exist(self, house: House, worker: Engine, tenant: httpx.Client) -> None:
        spend(house, tenant, "1")
        look(worker)
        webhook = created(tenant, house)
        stranger = httpx.Client(
            base_url=tenant.base_url, headers={"authorization": f"Bearer {house.key.text}"}, trust_env=False, timeout=60
        )
        with stranger:
            assert stranger.get("/v1/alerts").json()["data"] == []
            assert stranger.get("/v1/webhooks").json()["data"] == []
            assert stranger.get(f"/v1/webhooks/{webhook['id']}/deliveries").status_code == 404
            assert stranger.delete(f"/v1/webhooks/{webhook['id']}").status_code == 403  # and without the scope `keys`
        gateway = engine_for(house.database.url("gateway"))
        forged = (
            "insert into webhook_messages (tenant_id, webhook_id, type, body) values (uuidv7(), uuidv7(), 'x', 'x')"
        )
        with pytest.raises(Exception, match="row-level security"), unit_of_work(gateway) as session:
            session.execute(text(forged))
        gateway.dispose()


class TestDelivery:
    def test_signed_for_whoever_knows_the_standard(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path
    ) -> None:
        webhook = created(tenant, house, receiver)
        asked = tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        assert asked.status_code == 202, asked.text
        sender(worker, certificate, receiver).send_due()
        ((headers, body),) = receiver.got
        assert headers["webhook-id"] == asked.json()["id"]
        assert abs(int(headers["webhook-timestamp"]) - clock.now().timestamp()) < 300
        assert json.loads(body)["type"] == "webhook.test"
        assert is_signed(webhook["secret"], headers, body)
        assert not is_signed(webhook["secret"], headers, body + b" ")
        (delivery,) = deliveries(tenant, webhook)
        assert (delivery["delivered_at"] is not None, delivery["next_attempt_at"]) == (True, None)
        assert "secret" not in tenant.get("/v1/webhooks").json()["data"][0]
        with house.database.superuser() as connection:
            stored = connection.execute("select secret from webhooks").fetchall()
        assert all(base64.b64decode(webhook["secret"][6:]) not in row[0] for row in stored)

    def test_both_secrets_sign_while_one_replaces_the_other(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path
    ) -> None:
        webhook = created(tenant, house, receiver)
        renewed = tenant.post(f"/v1/webhooks/{webhook['id']}/rotate").json()["secret"]
        for is_old_valid in (True, False):
            tenant.post(f"/v1/webhooks/{webhook['id']}/test")
            sender(worker, certificate, receiver).send_due()
            headers, body = receiver.got[-1]
            assert is_signed(renewed, headers, body)
            assert is_signed(webhook["secret"], headers, body) == is_old_valid
            with house.database.superuser() as connection:
                connection.execute("update webhooks set previous_until = now()")

    def test_again_with_the_same_id_until_it_arrives_or_is_given_up(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path
    ) -> None:
        webhook, post = created(tenant, house, receiver), sender(worker, certificate, receiver)
        tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        receiver.status = 302  # leads nowhere: a redirect is no success
        assert [attempt.status for attempt in post.send_due()] == [302]
        assert post.send_due() == []  # not before its pause is over
        receiver.status = 200
        make_due(house)
        post.send_due()
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert [attempt["status"] for attempt in deliveries(tenant, webhook)[0]["attempts"]] == [302, 200]
        tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        receiver.status = 500
        for _ in range(len(BACKOFF) + 1):
            make_due(house)
            assert len(post.send_due()) == 1
        make_due(house)
        assert post.send_due() == []
        assert deliveries(tenant, webhook)[0]["next_attempt_at"] is None

    def test_a_sender_that_dies_in_between_sends_it_again_with_the_same_id(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path
    ) -> None:
        webhook, post = created(tenant, house, receiver), sender(worker, certificate, receiver)
        tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        with pytest.MonkeyPatch.context() as patch:

            def die(*_: object) -> None:
                raise SystemExit

            patch.setattr(post, "_record", die)
            with pytest.raises(SystemExit):
                post.send_due()
        assert post.send_due() == []  # claimed: whoever else looks now does not send it, too
        make_due(house)
        post.send_due()
        assert [headers["webhook-id"] for headers, _ in receiver.got] == [deliveries(tenant, webhook)[0]["id"]] * 2

    def test_racing_senders_take_each_message_once(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path
    ) -> None:
        webhook = created(tenant, house, receiver)
        for _ in range(4):
            tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda _: sender(worker, certificate, receiver).send_due(), range(3)))
        assert len(receiver.got) == len({headers["webhook-id"] for headers, _ in receiver.got}) == 4

    @pytest.mark.parametrize("addresses", [("10.0.0.1",), ("169.254.169.254",), ("93.184.216.34", "127.0.0.1"), ()])
    def test_never_into_our_own_network(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path,
        addresses: tuple[str, ...],
    ) -> None:  # fmt: skip
        webhook = created(tenant, house, receiver)
        tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        sender(worker, certificate, receiver, addresses, is_allowed=rules.is_public).send_due()
        (attempt,) = deliveries(tenant, webhook)[0]["attempts"]
        assert (attempt["status"], attempt["error"]) == (None, "its host is not on the public internet")
        assert receiver.got == []

    def test_nothing_goes_to_a_deleted_webhook(
        self, house: House, worker: Engine, tenant: httpx.Client, receiver: Receiver, certificate: Path
    ) -> None:
        webhook = created(tenant, house, receiver)
        tenant.post(f"/v1/webhooks/{webhook['id']}/test")
        assert tenant.delete(f"/v1/webhooks/{webhook['id']}").json()["deleted"]
        assert sender(worker, certificate, receiver).send_due() == []
        assert (receiver.got, tenant.get("/v1/webhooks").json()["data"]) == ([], [])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.test/", "only `https:`"),
        ("https://hooks.test:8443/", "only port 443"),
        ("https://me:secret@hooks.test/", "user or a password"),
        ("https:///", "no"),
    ],
)
def test_an_address_that_is_never_asked_is_refused_at_once(tenant: httpx.Client, url: str, words: str) -> None:
    answer = tenant.post("/v1/webhooks", json={"url": url})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "url")
    assert words in answer.json()["error"]["message"]


def test_pauses_grow_to_more_than_a_day_together() -> None:
    assert sorted(BACKOFF) == list(BACKOFF)
    assert sum(BACKOFF, timedelta(0)) > timedelta(hours=24)

"""What keys are confined to, `/v1/keys`, and when a key was last used: through the front door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from serving.languages import TOKEN_ENDPOINTS
from studio import ids
from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey, create_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, wait_until

Minted = Callable[..., httpx.Client]


@pytest.fixture
def minted(house: House, gateway: GatewayProcess) -> Iterator[Minted]:
    """HTTP with a new key that the gateway knows."""
    clients: list[httpx.Client] = []

    def mint(credit: Decimal | None = None, **rights: Any) -> httpx.Client:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "test", "tests", **rights)
            session.flush()
            if credit is not None:
                put_budget(session, house.tenant_id, key.id, "prepaid", credit, "tests")
        clients.append(client_with(gateway, key.text))
        return clients[-1]

    yield mint
    for client in clients:
        client.close()


def client_with(gateway: GatewayProcess, text: str) -> httpx.Client:
    client = httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {text}"}, trust_env=False)
    wait_until(lambda: client.get("/v1/models").status_code == 200)
    return client


def chat(client: httpx.Client, model: str = CHAT) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "hi"}]})


def embed(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": EMBEDDING, "input": "hi"})


def refused(answer: httpx.Response, words: str) -> bool:
    error = answer.json()["error"]
    return (answer.status_code, error["code"]) == (403, "permission_denied") and words in error["message"]


class TestConfinedKeys:
    def test_to_an_endpoint(self, minted: Minted) -> None:
        key = minted(endpoints=["/v1/chat/completions"])
        assert chat(key).status_code == 200
        assert refused(embed(key), "may not call `/v1/embeddings`, only /v1/chat/completions. Use a key that may.")
        assert refused(key.get("/v1/usage"), "/v1/usage")
        assert refused(key.get("/v1/files"), "/v1/files")

    def test_every_path_that_an_engine_answers_can_be_named(self, minted: Minted, gateway: GatewayProcess) -> None:
        maker = minted(scopes=["inference", "keys"])
        for endpoint in TOKEN_ENDPOINTS:
            made = maker.post("/v1/keys", json={"name": "one", "scopes": ["inference"], "endpoints": [endpoint.path]})
            assert made.status_code in (200, 201), endpoint.path

    def test_what_is_named_covers_what_lies_below_it(self, minted: Minted) -> None:
        key = minted(endpoints=["/v1/batches"])
        assert key.get("/v1/batches/batch_0").status_code == 404
        assert refused(chat(key), "/v1/chat/completions")

    def test_a_batch_is_no_way_around(self, minted: Minted) -> None:
        key = minted(endpoints=["/v1/batches", "/v1/chat/completions"])
        order = {"input_file_id": "file-0", "endpoint": "/v1/embeddings", "completion_window": "24h"}
        assert refused(key.post("/v1/batches", json=order), "/v1/embeddings")

    def test_to_a_model(self, minted: Minted) -> None:
        key = minted(models=[CHAT])
        assert chat(key).status_code == 200
        assert refused(chat(key, CHAT_FAST), f"may not use the model `{CHAT_FAST}`, only {CHAT}")
        assert refused(embed(key), EMBEDDING)
        assert refused(key.get(f"/v1/models/{EMBEDDING}"), EMBEDDING)
        assert refused(key.post("/v1/fine_tuning/jobs", json={"model": EMBEDDING, "training_file": "x"}), EMBEDDING)

    def test_the_list_shows_what_the_key_may_use(self, minted: Minted) -> None:
        assert [model["id"] for model in minted(models=[CHAT]).get("/v1/models").json()["data"]] == [CHAT]

    def test_a_model_that_there_is_not_is_refused_as_without(self, minted: Minted) -> None:
        assert refused(chat(minted(models=[CHAT]), "no-such"), "no-such")


class TestOwnKeys:
    def test_without_a_key_is_401_and_without_the_scope_403(self, stranger: httpx.Client, api: httpx.Client) -> None:
        for method, path, body in (
            ("GET", "/v1/keys", None),
            ("POST", "/v1/keys", {"name": "x"}),
            ("DELETE", "/v1/keys/key_0", None),
        ):
            assert stranger.request(method, path, json=body).status_code == 401
            assert refused(api.request(method, path, json=body), "the scope `keys`")

    def test_a_token_where_nobody_can_sign_in_is_refused_with_the_reason(self, stranger: httpx.Client) -> None:
        answer = stranger.get("/v1/keys", headers={"authorization": "Bearer a.b.c"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")
        assert "no OpenID provider is set" in answer.json()["error"]["message"]

    def test_a_created_key_works_is_listed_without_its_text_and_ends_at_once(
        self, minted: Minted, gateway: GatewayProcess
    ) -> None:
        owner = minted(scopes=["keys", "inference", "usage"])
        created = owner.post("/v1/keys", json={"name": "ci", "models": [CHAT]}).json()
        key = client_with(gateway, created["key"])
        assert chat(key).status_code == 200
        listed = owner.get("/v1/keys").json()
        mine = next(one for one in listed["data"] if one["id"] == created["id"])
        assert (mine["name"], mine["models"], mine["endpoints"]) == ("ci", [CHAT], None)
        assert created["key"] not in str(listed)
        assert owner.delete(f"/v1/keys/{created['id']}").status_code == 204
        wait_until(lambda: chat(key).status_code == 401, seconds=1)
        assert owner.delete(f"/v1/keys/{created['id']}").status_code == 404
        key.close()

    def test_every_change_is_in_the_audit_log_under_the_key_that_made_it(self, minted: Minted, house: House) -> None:
        owner = minted(scopes=["keys", "inference"])
        created = owner.post("/v1/keys", json={"name": "seen", "scopes": ["inference"]}).json()
        owner.delete(f"/v1/keys/{created['id']}")
        with house.database.superuser() as connection:
            entries = connection.execute(
                "select action, actor, tenant_id from audit_log where subject = %s order by at", (created["prefix"],)
            ).fetchall()
        actor = owner.headers["authorization"].removeprefix("Bearer ")[:12]
        assert entries == [("key.create", actor, house.tenant_id), ("key.revoke", actor, house.tenant_id)]

    @pytest.mark.parametrize(
        ("own", "asked", "words"),
        [
            ({"scopes": ["keys", "usage"]}, {"scopes": ["inference"]}, "scopes inference"),
            ({"models": [CHAT]}, {"models": [CHAT, CHAT_FAST]}, f"models {CHAT_FAST}"),
            ({"endpoints": ["/v1/keys", "/v1/chat"]}, {"endpoints": ["/v1/embeddings"]}, "endpoints /v1/embeddings"),
            ({"requests_per_second": 5}, {}, "limits or a budget of its own"),
            ({"credit": Decimal(5)}, {}, "limits or a budget of its own"),
        ],
    )
    def test_nobody_hands_on_what_they_do_not_have(
        self, minted: Minted, own: dict[str, Any], asked: dict[str, Any], words: str
    ) -> None:
        owner = minted(**{"scopes": ["keys", "inference", "usage"]} | own)
        assert refused(owner.post("/v1/keys", json={"name": "more"} | asked), words)

    def test_what_a_new_key_is_not_told_it_has_from_its_maker(self, minted: Minted) -> None:
        owner = minted(scopes=["keys", "inference", "usage"], models=[CHAT], endpoints=["/v1/keys", "/v1/chat"])
        created = owner.post("/v1/keys", json={"name": "child"}).json()
        assert (created["models"], created["endpoints"]) == ([CHAT], ["/v1/chat", "/v1/keys"])

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"scopes": ["admin"]}, "scopes"),
            ({"scopes": []}, "scopes"),
            ({"models": ["no-such"]}, "there is no model no-such"),
            ({"endpoints": ["/v1/chat/completion"]}, "there is no endpoint /v1/chat/completion"),
            ({"expires_in_seconds": 0}, "expires_in_seconds"),
            ({"name": "\0"}, "name"),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_reason(self, minted: Minted, body: dict[str, Any], words: str) -> None:
        answer = minted(scopes=["keys", "inference", "usage"]).post("/v1/keys", json={"name": "x"} | body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]

    def test_keys_of_another_tenant_do_not_exist(self, minted: Minted, house: House) -> None:
        other = new_tenant(house.operator, f"other-{ids.uuid7().hex[-8:]}")
        with unit_of_work(house.operator) as session:
            theirs = create_key(session, other, "theirs", "tests")
        owner = minted(scopes=["keys"])
        assert theirs.prefix not in owner.get("/v1/keys").text
        assert owner.delete(f"/v1/keys/{ids.to_wire(ids.API_KEY, theirs.id)}").status_code == 404

    def test_an_operators_key_is_not_the_tenants_to_end(self, minted: Minted, house: House) -> None:
        with unit_of_work(house.operator) as session:
            admin = create_key(session, house.tenant_id, "admin", "tests", scopes=["admin"])
        owner = minted(scopes=["keys"])
        assert owner.delete(f"/v1/keys/{ids.to_wire(ids.API_KEY, admin.id)}").status_code == 404


def test_the_last_use_of_a_key_is_written_beside_the_requests_and_not_for_each(
    house: House, gateway: GatewayProcess
) -> None:
    with unit_of_work(house.operator) as session:
        key = create_key(session, house.tenant_id, "used", "tests")
    client = client_with(gateway, key.text)
    with house.database.superuser() as listener:
        listener.execute("listen studio_keys")
        wait_until(lambda: last_use(house, key) is not None)
        first = last_use(house, key)
        chat(client)
        chat(client)
        # Nor is any gateway told to read its keys again because of it.
        assert list(listener.notifies(timeout=1.5)) == []
    assert last_use(house, key) == first
    client.close()


def last_use(house: House, key: CreatedKey) -> Any:
    with house.database.superuser() as connection:
        row = connection.execute("select last_used_at from api_key_uses where api_key_id = %s", (key.id,)).fetchone()
    return row and row[0]

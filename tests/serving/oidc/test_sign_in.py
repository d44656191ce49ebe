"""People sign in with tokens of a certified OpenID provider."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from local.api import Api, ApiRefused
from studio.settings import REPOSITORY
from tests.serving.gateway_process import CHAT, wait_until
from tests.serving.ledger import outage
from tests.serving.oidc.conftest import Lobby
from tests.serving.oidc.provider import AUDIENCE, SigningKeys

CHAT_BODY = {"model": CHAT, "messages": [{"role": "user", "content": "hi"}]}


def chat(lobby: Lobby, who: str, **arguments: Any) -> httpx.Response:
    return lobby.call(who, "POST", "/v1/chat/completions", json=CHAT_BODY, **arguments)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def claims(lobby: Lobby, **changes: Any) -> dict[str, Any]:
    """Anna's claims as the provider would sign them; None leaves one out."""
    now = int(time.time())
    good = {"iss": lobby.provider.issuer, "aud": AUDIENCE, "sub": "anna", "iat": now, "exp": now + 300}
    said = good | {"tenant": "acme", "realm_access": {"roles": ["owner"]}} | changes
    return {name: value for name, value in said.items() if value is not None}


def segment(part: Mapping[str, Any] | bytes) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class TestTokens:
    @pytest.mark.parametrize("who", ["anna", "elliptic", "pss"])
    def test_of_the_provider_let_in_whatever_it_signs_with(self, lobby: Lobby, who: str) -> None:
        answer = chat(lobby, who)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]

    def test_for_somebody_else_are_refused(self, lobby: Lobby) -> None:
        answer = lobby.call(None, "GET", "/v1/models", lobby.provider.token("anna", "urn:another-service"))
        assert code_of(answer) == (401, "invalid_token")
        assert f"`aud` must contain {AUDIENCE}" in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({}, 200),
            ({"exp": -30}, 200),  # clocks may differ by a minute
            ({"exp": -90}, 401),
            ({"nbf": 30}, 200),
            ({"nbf": 90}, 401),
            ({"iat": 30}, 200),
        ],
    )
    def test_hold_for_their_time_give_or_take_a_minute(
        self, lobby: Lobby, changes: dict[str, int], status: int
    ) -> None:
        times = {name: int(time.time()) + offset for name, offset in changes.items()}
        assert lobby.status(lobby.provider.keys.sign(claims(lobby, **times))) == status

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"exp": None}, "lacks the claim `exp`"),
            ({"sub": None}, "lacks the claim `sub`"),
            ({"aud": None}, "aud"),
            ({"iss": "https://evil.example"}, "another provider"),
            ({"typ": "ID"}, "no access token"),
        ],
    )
    def test_must_say_what_they_are(self, lobby: Lobby, changes: dict[str, Any], words: str) -> None:
        answer = lobby.call(None, "GET", "/v1/models", lobby.provider.keys.sign(claims(lobby, **changes)))
        assert code_of(answer) == (401, "invalid_token")
        assert words in answer.json()["error"]["message"]

    def test_forged_ones_are_refused(self, lobby: Lobby) -> None:
        keys, said = lobby.provider.keys, claims(lobby)
        public = keys.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with_secret = f"{segment({'alg': 'HS256', 'kid': keys.rsa_id})}.{segment(said)}"
        of_others = SigningKeys("first")  # the same key ids, other keys
        own_key = {"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(of_others.rsa.public_key()))}
        good = keys.sign(said)
        forged = {
            "no signature": f"{segment({'alg': 'none', 'kid': keys.rsa_id})}.{segment(said)}.",
            "no signature, in capitals": f"{segment({'alg': 'NONE'})}.{segment(said)}.",
            "our public key as a secret": (
                f"{with_secret}.{segment(hmac.digest(public, with_secret.encode(), hashlib.sha256))}"
            ),
            "another's key": of_others.sign(said),
            "brings its own key": of_others.sign(said, **own_key),
            "the key of another algorithm": keys.sign(said, "RS256", kid=keys.ec_id),
            "changed": ".".join((good.split(".")[0], segment(said | {"tenant": "globex"}), good.split(".")[2])),
            "no JSON": "a.b.c",
            "no name of an algorithm": f"{segment({'alg': ['RS256']})}.{segment(said)}.x",
            "no name of a key": f"{segment({'alg': 'RS256', 'kid': {}})}.{segment(said)}.x",
            "no end of brackets": f"{segment(b'[' * 9000)}.{segment(said)}.x",
            "too long": f"{segment({'alg': 'RS256'})}.{'A' * 20_000}.x",
        }
        accepted = [how for how, token in forged.items() if lobby.status(token) != 401]
        assert accepted == []
        assert lobby.status(good) == 200


class TestTenants:
    def test_see_nothing_of_each_other(self, lobby: Lobby) -> None:
        upload = {"file": ("a.jsonl", b"{}")}
        file = lobby.call("anna", "POST", "/v1/files", files=upload, data={"purpose": "batch"}).json()["id"]
        key = lobby.call("anna", "POST", "/v1/keys", json={"name": "acme's"}).json()["id"]
        assert lobby.call("gus", "GET", f"/v1/files/{file}").status_code == 404
        assert lobby.call("gus", "DELETE", f"/v1/files/{file}").status_code == 404
        assert lobby.call("gus", "DELETE", f"/v1/keys/{key}").status_code == 404
        assert key not in lobby.call("gus", "GET", "/v1/keys").text
        assert lobby.call("gus", "GET", "/v1/files").json()["data"] == []
        assert lobby.call("dev", "GET", f"/v1/files/{file}").status_code == 200

    def test_who_has_two_says_which(self, lobby: Lobby) -> None:
        answer = chat(lobby, "both")
        assert answer.status_code == 400
        assert "acme, globex" in answer.json()["error"]["message"]
        assert "OpenAI-Organization" in answer.json()["error"]["message"]
        assert chat(lobby, "both", headers={"openai-organization": "globex"}).status_code == 200
        assert code_of(chat(lobby, "anna", headers={"openai-organization": "globex"})) == (403, "permission_denied")

    @pytest.mark.parametrize("who", ["nobody", "without-tenant", "elsewhere", "ops"])
    def test_without_one_nothing_of_any_is_open_and_the_answer_says_what_to_do(self, lobby: Lobby, who: str) -> None:
        answer = chat(lobby, who)
        assert code_of(answer) == (403, "permission_denied")
        assert "Ask your operator for one and name your user id, usr_" in answer.json()["error"]["message"]


class TestRoles:
    def test_finance_sees_usage_and_uses_nothing(self, lobby: Lobby) -> None:
        assert lobby.call("fin", "GET", "/v1/usage").status_code == 200
        assert code_of(chat(lobby, "fin")) == (403, "permission_denied")
        assert "Your role in the tenant `acme`" in chat(lobby, "fin").json()["error"]["message"]
        assert lobby.call("fin", "POST", "/v1/keys", json={"name": "x"}).status_code == 403

    def test_a_developer_manages_the_keys_that_they_made_and_an_owner_all(self, lobby: Lobby) -> None:
        own = lobby.call("dev", "POST", "/v1/keys", json={"name": "x"}).json()["id"]
        of_anna = lobby.call("anna", "POST", "/v1/keys", json={"name": "hers"}).json()["id"]
        of_dev = [key["id"] for key in lobby.call("dev", "GET", "/v1/keys").json()["data"]]
        of_all = [key["id"] for key in lobby.call("anna", "GET", "/v1/keys").json()["data"]]
        assert own in of_dev
        assert of_anna not in of_dev
        assert {own, of_anna} <= set(of_all)
        assert lobby.call("dev", "DELETE", f"/v1/keys/{of_anna}").status_code == 404
        assert lobby.call("dev", "DELETE", f"/v1/keys/{own}").status_code == 204
        wide = {"name": "x", "scopes": ["keys"]}
        assert code_of(lobby.call("dev", "POST", "/v1/keys", json=wide)) == (403, "permission_denied")
        second = lobby.call("dev", "POST", "/v1/keys", json={"name": "y"}).json()["id"]
        assert lobby.call("anna", "DELETE", f"/v1/keys/{second}").status_code == 204

    @pytest.mark.parametrize(
        ("who", "reads", "bills", "operates"),
        [
            ("ops", True, True, True),
            ("our-finance", True, True, False),
            ("our-auditor", True, False, False),
            ("anna", False, False, False),
            ("fin", False, False, False),
            ("without-tenant", False, False, False),
        ],
    )
    def test_on_operators_routes(self, lobby: Lobby, who: str, reads: bool, bills: bool, operates: bool) -> None:
        order = {"tenant": "no-such", "month": "2026-10", "reason": "test"}
        engine = {"model": "no-such", "url": "http://127.0.0.1:1"}
        budget = {"kind": "monthly", "amount": "1"}
        answers = (
            (reads, 200, lobby.call(who, "GET", "/admin/v1/invoices")),
            (bills, 404, lobby.call(who, "POST", "/admin/v1/invoices/orders", json=order)),
            (bills, 404, lobby.call(who, "PUT", "/admin/v1/tenants/no-such/budgets", json=budget)),
            (operates, 404, lobby.call(who, "POST", "/admin/v1/fleet/replicas", json=engine)),
        )
        for allowed, status, answer in answers:
            assert answer.status_code == (status if allowed else 403), answer.text

    def test_what_a_person_does_is_in_the_audit_log_under_the_identity_of_the_provider(self, lobby: Lobby) -> None:
        made = lobby.call("ops", "POST", "/admin/v1/tenants/acme/keys", json={"name": "by ops"}).json()
        own = lobby.call("anna", "POST", "/v1/keys", json={"name": "by anna"}).json()
        with lobby.house.database.superuser() as connection:
            rows = connection.execute("select subject, actor from audit_log where action = 'key.create'").fetchall()
        actors: dict[str, str] = dict(rows)
        assert actors[made["prefix"]] == f"oidc:{lobby.provider.issuer}#ops (ops@studio.example)"
        assert actors[own["prefix"]] == f"oidc:{lobby.provider.issuer}#anna (anna@acme.example)"


class TestUsers:
    @pytest.fixture
    def api(self, lobby: Lobby) -> Iterator[Api]:
        api = Api(lobby.gateway.url, lobby.provider.token("ops"))
        yield api
        api.close()

    def test_are_known_from_their_first_request_with_what_their_token_says(self, lobby: Lobby, api: Api) -> None:
        assert chat(lobby, "anna").status_code == 200
        anna = user(api, "anna@acme.example")
        assert (anna["issuer"], anna["subject"], anna["name"]) == (lobby.provider.issuer, "anna", "Anna")
        said = [(one["role"], one["tenant"], one["origin"]) for one in anna["memberships"]]
        assert said == [("owner", "acme", "claims")]

    def test_usage_of_a_person_is_the_tenants(self, lobby: Lobby, api: Api) -> None:
        answer = chat(lobby, "gus")
        wait_until(lambda: answer.headers["x-request-id"] in requests(lobby))
        own_key = user(api, "gus@globex.example")["keys"][0]["id"]
        assert requests(lobby)[answer.headers["x-request-id"]] == (lobby.globex.hex, own_key.removeprefix("key_"))

    def test_are_granted_and_lose_roles_within_a_second(self, lobby: Lobby, api: Api) -> None:
        assert chat(lobby, "nobody").status_code == 403
        api.post("/admin/v1/users/nobody@example.com/memberships", {"role": "developer", "tenant": "acme"})
        wait_until(lambda: chat(lobby, "nobody").status_code == 200, seconds=1)
        with pytest.raises(ApiRefused, match="has this role already"):
            api.post("/admin/v1/users/nobody@example.com/memberships", {"role": "developer", "tenant": "acme"})
        granted = user(api, "nobody@example.com")["memberships"][0]
        assert (granted["origin"], granted["granted_by"]) == (
            "granted",
            f"oidc:{lobby.provider.issuer}#ops (ops@studio.example)",
        )
        api.delete(f"/admin/v1/memberships/{granted['id']}")
        wait_until(lambda: chat(lobby, "nobody").status_code == 403, seconds=1)

    def test_may_be_granted_a_role_everywhere(self, lobby: Lobby, api: Api) -> None:
        lobby.call("fin", "GET", "/v1/usage")
        fin = next(one for one in api.get("/admin/v1/users") if one["subject"] == "fin")
        api.post(f"/admin/v1/users/{fin['id']}/memberships", {"role": "auditor"})
        wait_until(lambda: lobby.call("fin", "GET", "/admin/v1/tenants").status_code == 200, seconds=1)
        assert lobby.call("fin", "PUT", "/admin/v1/clock", json={"offset_seconds": 1}).status_code == 403
        auditor = user(api, fin["id"])["memberships"][-1]
        api.delete(f"/admin/v1/memberships/{auditor['id']}")
        wait_until(lambda: lobby.call("fin", "GET", "/admin/v1/tenants").status_code == 403, seconds=1)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"role": "owner"}, "belongs to a tenant"),
            ({"role": "ops", "tenant": "acme"}, "for all tenants"),
            ({"role": "developer", "tenant": "no-such"}, "no tenant 'no-such'"),
        ],
    )
    def test_what_cannot_be_granted(self, lobby: Lobby, api: Api, body: dict[str, Any], words: str) -> None:
        chat(lobby, "anna")
        with pytest.raises(ApiRefused, match=words):
            api.post("/admin/v1/users/anna@acme.example/memberships", body)

    def test_lose_their_way_in_at_once_with_the_key_that_stands_for_them(self, lobby: Lobby, api: Api) -> None:
        assert chat(lobby, "ended").status_code == 200
        ended = user(api, "ended@acme.example")
        with pytest.raises(ApiRefused, match="take the role away there"):
            api.delete(f"/admin/v1/memberships/{ended['memberships'][0]['id']}")
        api.delete(f"/admin/v1/keys/{ended['keys'][0]['id']}")
        wait_until(lambda: chat(lobby, "ended").status_code == 403, seconds=1)
        assert "An operator has ended your access" in chat(lobby, "ended").json()["error"]["message"]
        with outage(lobby.house.database):
            assert chat(lobby, "ended").status_code == 503  # nobody can tell, so nobody comes in
        wait_until(lambda: chat(lobby, "ended").status_code == 403)
        api.post(f"/admin/v1/users/{ended['id']}/memberships", {"role": "developer", "tenant": "acme"})
        wait_until(lambda: chat(lobby, "ended").status_code == 200, seconds=1)

    def test_the_key_that_stands_for_a_person_is_not_among_the_tenants_own(self, lobby: Lobby, api: Api) -> None:
        chat(lobby, "anna")
        own_key = user(api, "anna@acme.example")["keys"][0]["id"]
        assert own_key not in lobby.call("anna", "GET", "/v1/keys").text
        assert lobby.call("anna", "DELETE", f"/v1/keys/{own_key}").status_code == 404


def test_the_command_line(lobby: Lobby) -> None:
    def studio(*arguments: str) -> str:
        environment = {"STUDIO_GATEWAY_URL": lobby.gateway.url, "STUDIO_API_KEY": lobby.provider.token("ops")}
        command = [str(REPOSITORY / "bin" / "studio"), "user", *arguments]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout

    chat(lobby, "nobody")
    granted = json.loads(studio("grant", "nobody@example.com", "finance", "--tenant", "globex", "--json"))
    assert (granted["role"], granted["tenant"], granted["origin"]) == ("finance", "globex", "granted")
    nobody = next(one for one in json.loads(studio("list", "--json")) if one["email"] == "nobody@example.com")
    assert [one["id"] for one in nobody["memberships"]] == [granted["id"]]
    assert studio("revoke", nobody["id"], "finance", "--tenant", "globex").endswith("no longer finance of globex.\n")
    with lobby.house.database.superuser() as connection:
        entries = connection.execute(
            "select action, details from audit_log where subject = %s and action ~ 'grant|revoke' order by at desc"
            " limit 2",
            (nobody["id"],),
        ).fetchall()
    assert entries == [("user.revoke", {"role": "finance"}), ("user.grant", {"role": "finance"})]


def test_what_a_person_changes_in_the_tenant_is_in_the_audit_log(lobby: Lobby) -> None:
    upload = {"file": ("b.jsonl", b"{}")}
    file = lobby.call("anna", "POST", "/v1/files", files=upload, data={"purpose": "batch"}).json()["id"]
    order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = lobby.call("dev", "POST", "/v1/batches", json=order).json()["id"]
    lobby.call("dev", "POST", f"/v1/batches/{batch}/cancel")
    lobby.call("anna", "DELETE", f"/v1/files/{file}")
    with lobby.house.database.superuser() as connection:
        rows = connection.execute(
            "select action, actor from audit_log where subject in (%s, %s) order by at, id", (file, batch)
        ).fetchall()
    subject = f"oidc:{lobby.provider.issuer}#"
    assert [(action, actor.partition(" ")[0].removeprefix(subject)) for action, actor in rows] == [
        ("file.create", "anna"),
        ("batch.create", "dev"),
        ("batch.cancel", "dev"),
        ("file.delete", "anna"),
    ]


def test_while_the_database_is_away_who_is_known_goes_on_and_a_new_face_waits(lobby: Lobby) -> None:
    known, new = lobby.provider.token("anna"), lobby.provider.token("late")
    wait_until(lambda: lobby.status(known) == 200)
    with outage(lobby.house.database):
        answer = lobby.call(None, "POST", "/v1/chat/completions", known, json=CHAT_BODY)
        assert answer.status_code == 200, answer.text
        waiting = lobby.call(None, "POST", "/v1/chat/completions", new, json=CHAT_BODY)
        assert waiting.status_code == 503
        assert waiting.headers["retry-after"] == "5"
    wait_until(lambda: lobby.status(new) == 200)


class TestTheProvider:
    """Last: they change it."""

    def test_rotates_its_keys_and_nobody_notices(self, lobby: Lobby) -> None:
        old = lobby.provider.token("anna")
        assert lobby.status(old) == 200
        lobby.provider.rotate(SigningKeys("second"))
        new = lobby.provider.token("anna")
        # A key id that is not known is asked for at most once in some seconds.
        wait_until(lambda: lobby.status(new) == 200, seconds=7)
        assert lobby.status(old) == 401

    def test_is_away_and_who_has_a_token_goes_on(self, lobby: Lobby) -> None:
        token = lobby.provider.token("anna")
        wait_until(lambda: lobby.status(token) == 200, seconds=7)
        lobby.provider.stop()
        chatted = lobby.call(None, "POST", "/v1/chat/completions", token, json=CHAT_BODY)
        assert chatted.status_code == 200
        unknown = SigningKeys("third").sign(claims(lobby))
        wait_until(lambda: lobby.status(unknown) == 503, seconds=7)  # it may be good: nobody can tell
        assert lobby.status(token) == 200
        lobby.provider.start()


def user(api: Api, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in api.get("/admin/v1/users") if name in (one["id"], one["email"]))
    return found


def requests(lobby: Lobby) -> dict[str, tuple[str, str]]:
    with lobby.house.database.superuser() as connection:
        rows = connection.execute("select request_id, tenant_id, api_key_id from usage_events").fetchall()
    return {request: (tenant.hex, key.hex) for request, tenant, key in rows}

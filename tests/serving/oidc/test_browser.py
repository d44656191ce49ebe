"""People in a browser: sign in with the certified provider, sessions in a cookie, and what another site cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest

from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, wait_until
from tests.serving.oidc.conftest import PEOPLE
from tests.serving.oidc.provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ProviderProcess, SigningKeys
from tests.serving.oidc.test_sign_in import CHAT_BODY
from tests.stub_engine import StubEngine

SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway with its provider, and a house behind it."""

    gateway: GatewayProcess
    provider: ProviderProcess
    house: House
    globex: UUID


@pytest.fixture(scope="module")
def site(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests of this file."""
    globex = new_tenant(house.operator, "globex")
    gateway = GatewayProcess(house.database, tmp_path_factory.mktemp("site"))
    provider = ProviderProcess(tmp_path_factory.mktemp("provider"), PEOPLE, SigningKeys("first"), gateway.url)
    gateway.set(
        STUDIO_OIDC_ISSUER=provider.issuer,
        STUDIO_OIDC_AUDIENCE=AUDIENCE,
        STUDIO_OIDC_CLIENT_ID=CLIENT_ID,
        STUDIO_OIDC_CLIENT_SECRET=CLIENT_SECRET,
    )
    with provider, gateway:
        yield Site(gateway, provider, house, globex)


class Browser:
    """Keeps cookies as one does, and follows nothing by itself."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = httpx.Client(base_url=site.gateway.url, trust_env=False, timeout=30)

    def sign_in(self, who: str, next: str = "/de/playground") -> httpx.Response:
        """The whole way; the answer of the callback."""
        return self.come_back(self.at_provider(who, next))

    def at_provider(self, who: str, next: str = "/de/playground") -> str:
        """Until the provider sends back; the address that it sends to."""
        begun = self.client.get("/auth/login", params={"next": next})
        assert begun.status_code == 303, begun.text
        where = begun.headers["location"]
        while not where.startswith(self.site.gateway.url):
            page = self.client.get(where)
            if page.status_code == 200:  # who are you?
                page = self.client.post(where, data={"abort": "1"} if who == "" else {"login": who})
            where = str(page.url.join(page.headers["location"]))
        return where

    def come_back(self, where: str) -> httpx.Response:
        return self.client.get(where)

    @property
    def session(self) -> dict[str, Any]:
        answer = self.client.get("/auth/session")
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        said: dict[str, Any] = answer.json()
        return said

    @property
    def person(self) -> dict[str, Any]:
        person: dict[str, Any] = self.session["person"]
        return person

    def proof(self) -> dict[str, str]:
        """What a page of ours sends along."""
        return SAME_ORIGIN | {"x-csrf-token": self.person["csrf_token"]}

    def chat(self, **headers: str) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=CHAT_BODY, headers=headers)


@pytest.fixture
def another(site: Site) -> Iterator[Callable[[], Browser]]:
    """Opens browsers, each with cookies of its own."""
    with ExitStack() as stack:

        def open_one() -> Browser:
            one = Browser(site)
            stack.callback(one.client.close)
            return one

        yield open_one


@pytest.fixture
def browser(another: Callable[[], Browser]) -> Browser:
    return another()


def count(site: Site, statement: str, *values: Any) -> int:
    with site.house.database.superuser() as connection:
        row = connection.execute(statement, values).fetchone()
    assert row is not None
    return int(row[0])


class TestSignIn:
    def test_leads_to_the_provider_and_back_to_the_page_with_roles_and_usage_of_the_person(
        self, site: Site, browser: Browser
    ) -> None:
        assert browser.session == {"object": "session", "person": None, "provider": True, "links": True}
        back = browser.sign_in("anna", "/de/playground?model=x")
        assert (back.status_code, back.headers["location"]) == (303, "/de/playground?model=x")
        cookie = next(one for one in back.headers.get_list("set-cookie") if "session=" in one)
        assert re.fullmatch(
            r"studio-session=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200", cookie
        )  # not Secure: this is plain http on this machine
        person = browser.person
        assert (person["name"], person["email"], person["tenant"]) == ("Anna", "anna@acme.example", "acme")
        assert person["places"] == [{"tenant": "acme", "roles": ["owner"]}]
        answer = browser.chat(**browser.proof())
        assert answer.status_code == 200, answer.text
        request = answer.headers["x-request-id"]
        wait_until(lambda: count(site, "select count(*) from usage_events where request_id = %s", request) == 1)
        assert (
            count(
                site,
                "select count(*) from usage_events e join api_keys k on k.id = e.api_key_id"
                " join users u on u.id = k.user_id where e.request_id = %s and u.subject = 'anna' and e.tenant_id = %s",
                request,
                site.house.tenant_id,
            )
            == 1
        )
        assert browser.client.get("/v1/keys").status_code == 200  # an owner's
        assert browser.client.get("/admin/v1/tenants").status_code == 403  # and no operator's

    def test_an_operator_reaches_the_operators_routes(self, browser: Browser) -> None:
        browser.sign_in("ops")
        assert browser.person["everywhere"] == ["ops"]
        assert browser.client.get("/admin/v1/tenants").status_code == 200

    def test_nothing_that_opens_a_door_is_at_rest_in_clear(self, site: Site, browser: Browser) -> None:
        browser.sign_in("anna")
        secret = browser.client.cookies["studio-session"]
        with site.house.database.superuser() as connection:
            rows = connection.execute("select w::text from web_sessions w").fetchall()
        assert rows
        assert not any(
            secret in row or secret.encode().hex() in row or "eyJ" in row or "65794a" in row for (row,) in rows
        )

    @pytest.mark.parametrize(
        "next",
        ["https://evil.example/", "//evil.example", "/\\evil.example", "/en/../../x", "/v1/models", "/en/a\r\nx: y"],
    )
    def test_comes_back_to_pages_of_the_console_only(self, browser: Browser, next: str) -> None:
        assert browser.sign_in("anna", next).headers["location"] == "/"

    def test_that_was_left_at_the_provider_says_so(self, browser: Browser) -> None:
        back = browser.sign_in("", "/zh/models")
        assert back.headers["location"] == "/zh/signin?error=denied&next=%2Fzh%2Fmodels"
        assert browser.session["person"] is None

    def test_of_another_browser_cannot_be_finished_in_this_one(
        self, site: Site, browser: Browser, another: Callable[[], Browser]
    ) -> None:
        where = browser.at_provider("anna")
        victim = another()
        refused = victim.come_back(where)
        assert refused.headers["location"] == "/en/signin?error=expired&next=%2F"
        assert victim.session["person"] is None
        assert browser.come_back(where).headers["location"] == "/de/playground"  # in its own it can

    def test_is_finished_once(self, browser: Browser) -> None:
        where = browser.at_provider("anna")
        browser.come_back(where)
        again = browser.come_back(where)  # the back button
        assert again.headers["location"] == "/"
        assert browser.person["name"] == "Anna"

    def test_with_a_nonce_of_another_attempt_is_refused(self, site: Site, browser: Browser) -> None:
        # Both begun in this browser: the code of one with the state, and so the nonce and verifier, of the other.
        first, second = browser.at_provider("anna"), browser.at_provider("anna")
        code = parse_qs(urlsplit(first).query)["code"][0]
        state = parse_qs(urlsplit(second).query)["state"][0]
        mixed = browser.client.get("/auth/callback", params={"code": code, "state": state})
        assert mixed.headers["location"].startswith("/de/signin?error=refused")
        assert browser.session["person"] is None

    def test_in_two_tabs_at_the_same_time_works_in_both(self, browser: Browser) -> None:
        first = browser.at_provider("anna", "/en/models")
        second = browser.at_provider("anna", "/en/playground")
        assert browser.come_back(second).headers["location"] == "/en/playground"
        assert browser.come_back(first).headers["location"] == "/en/models"

    def test_of_somebody_without_a_role_shows_who_they_are(self, browser: Browser) -> None:
        browser.sign_in("nobody")
        assert (browser.person["tenant"], browser.person["places"]) == (None, [])
        refused = browser.chat(**browser.proof())
        assert refused.status_code == 403
        assert browser.person["user_id"] in refused.json()["error"]["message"]


class TestAnotherSite:
    @pytest.mark.parametrize(
        ("headers", "has_token"),
        [
            ({}, True),  # nobody says where it comes from
            ({"sec-fetch-site": "cross-site"}, True),
            ({"sec-fetch-site": "same-site"}, True),  # a neighbouring host
            ({"origin": "https://evil.example"}, True),
            (SAME_ORIGIN, False),
        ],
    )
    def test_cannot_spend_or_change_in_a_persons_name(
        self, browser: Browser, headers: dict[str, str], has_token: bool
    ) -> None:
        browser.sign_in("anna")
        token = {"x-csrf-token": browser.person["csrf_token"]} if has_token else {"x-csrf-token": "0" * 64}
        for path, body in (
            ("/v1/chat/completions", CHAT_BODY),
            ("/v1/keys", {"name": "theirs"}),
            ("/auth/session/tenant", {"tenant": "acme"}),
            ("/auth/logout", {}),
        ):
            refused = browser.client.post(path, json=body, headers=headers | token)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied"), path
        assert browser.person["name"] == "Anna"

    def test_a_browser_without_fetch_metadata_is_known_by_its_origin(self, site: Site, browser: Browser) -> None:
        browser.sign_in("anna")
        proof = {"origin": site.gateway.url, "x-csrf-token": browser.person["csrf_token"]}
        assert browser.chat(**proof).status_code == 200

    def test_a_key_needs_none_of_that(self, site: Site, browser: Browser) -> None:
        browser.sign_in("anna")
        assert browser.chat(authorization=f"Bearer {site.house.key.text}").status_code == 200


class TestTenants:
    def test_somebody_with_several_chooses_and_switches(self, site: Site, browser: Browser) -> None:
        browser.sign_in("both")
        assert browser.person["tenant"] is None
        unsaid = browser.chat(**browser.proof())
        assert unsaid.status_code == 400
        assert "acme, globex" in unsaid.json()["error"]["message"]
        for tenant, id in (("globex", site.globex), ("acme", site.house.tenant_id)):
            chosen = browser.client.post("/auth/session/tenant", json={"tenant": tenant}, headers=browser.proof())
            assert chosen.json()["tenant"] == tenant
            request = browser.chat(**browser.proof()).headers["x-request-id"]
            wait_until(lambda request=request: count(site, _OF, request) == 1)
            assert count(site, f"{_OF} and tenant_id = %s", request, id) == 1

    def test_nobody_chooses_one_where_they_have_no_role(self, browser: Browser) -> None:
        browser.sign_in("anna")
        for tenant in ("globex", "no-such-tenant"):
            refused = browser.client.post("/auth/session/tenant", json={"tenant": tenant}, headers=browser.proof())
            assert refused.status_code == 403


_OF = "select count(*) from usage_events where request_id = %s"


class TestTheEnd:
    def test_signing_out_ends_the_session_at_once_and_names_the_providers_own(
        self, site: Site, browser: Browser
    ) -> None:
        browser.sign_in("anna")
        cookie = {"cookie": f"studio-session={browser.client.cookies['studio-session']}"}
        out = browser.client.post("/auth/logout", headers=browser.proof())
        assert out.json()["go_to"].startswith(f"{site.provider.issuer}/session/end?id_token_hint=")
        assert browser.session["person"] is None
        stolen = httpx.get(f"{site.gateway.url}/v1/models", headers=cookie)
        assert (stolen.status_code, stolen.json()["error"]["code"]) == (401, "session_ended")
        # The provider has the page of before signed out, and comes back to ours.
        page = browser.client.get(out.json()["go_to"])
        xsrf = re.search(r'name="xsrf" value="(\w+)"', page.text)
        assert xsrf is not None
        confirmed = browser.client.post(
            f"{site.provider.issuer}/session/end/confirm", data={"xsrf": xsrf[1], "logout": "yes"}
        )
        assert confirmed.headers["location"].startswith(f"{site.gateway.url}/")

    def test_signing_out_at_the_provider_ends_it_here(
        self, site: Site, browser: Browser, another: Callable[[], Browser]
    ) -> None:
        browser.sign_in("gus")
        other = another()
        other.sign_in("gus")
        page = browser.client.get(f"{site.provider.issuer}/session/end", params={"client_id": CLIENT_ID})
        xsrf = re.search(r'name="xsrf" value="(\w+)"', page.text)
        assert xsrf is not None
        browser.client.post(f"{site.provider.issuer}/session/end/confirm", data={"xsrf": xsrf[1], "logout": "yes"})
        wait_until(lambda: browser.session["person"] is None)
        assert other.person["email"] == "gus@globex.example"  # another session of the provider

    def test_a_forged_logout_token_ends_nothing(self, site: Site, browser: Browser) -> None:
        browser.sign_in("anna")
        event: dict[str, dict[str, str]] = {"http://schemas.openid.net/event/backchannel-logout": {}}
        good = {"iss": site.provider.issuer, "aud": CLIENT_ID, "iat": 4_000_000_000, "jti": "1", "sub": "anna"}
        keys = site.provider.keys
        for token in (
            SigningKeys("first").sign(good | {"events": event}),
            keys.sign(good | {"iat": 1, "events": event}),
            keys.sign(good | {"iat": 1_700_000_000}),
            keys.sign(good | {"iat": 1_700_000_000, "events": event, "aud": AUDIENCE}),
            site.provider.token("anna"),
        ):
            refused = httpx.post(f"{site.gateway.url}/auth/backchannel-logout", data={"logout_token": token})
            assert refused.status_code == 400, refused.text
        assert browser.person["name"] == "Anna"

    def test_an_operator_signs_somebody_out_at_once(
        self, site: Site, browser: Browser, another: Callable[[], Browser]
    ) -> None:
        browser.sign_in("dev")
        operator = another()
        operator.sign_in("ops")
        user = browser.person["user_id"]
        ended = operator.client.delete(f"/admin/v1/users/{user}/sessions", headers=operator.proof())
        assert ended.json() == {"ended": 1}
        wait_until(lambda: browser.session["person"] is None, seconds=2)

    @pytest.mark.parametrize("column", ["idle_until", "expires_at"])
    def test_a_session_left_alone_or_too_old_is_over(self, site: Site, browser: Browser, column: str) -> None:
        browser.sign_in("fin")
        wait_until(lambda: browser.client.get("/v1/usage").status_code == 200)
        with site.house.database.superuser() as connection:
            # As if this one gateway had not been asked for long; it notices by what it remembers.
            connection.execute(
                f"update web_sessions set {column} = now() - interval '1 second', tenant_id = tenant_id"
                " where user_id in (select id from users where subject = 'fin')"
            )
        wait_until(lambda: browser.client.get("/v1/usage").status_code == 401)
        assert browser.session["person"] is None

    def test_a_revoked_key_of_a_person_ends_the_tenant_for_the_session_too(self, site: Site, browser: Browser) -> None:
        browser.sign_in("ended")
        assert browser.chat(**browser.proof()).status_code == 200
        with site.house.database.superuser() as connection:
            connection.execute(
                "update api_keys set revoked_at = now() where user_id in (select id from users where subject = 'ended')"
            )
        wait_until(lambda: browser.chat(**browser.proof()).status_code == 403)


class TestLinks:
    def test_sign_in_once_and_say_so_the_second_time(
        self, site: Site, browser: Browser, another: Callable[[], Browser]
    ) -> None:
        operator = another()
        operator.sign_in("ops")
        order = {"name": "laptop", "tenants": ["acme"], "roles": ["owner"], "everywhere": ["ops"]}
        made = operator.client.post("/admin/v1/signin-links", json=order, headers=operator.proof())
        assert made.status_code == 201, made.text
        page, _, token = made.json()["url"].partition("#link=")
        assert page == f"{site.gateway.url}/en/signin"
        assert count(site, "select count(*) from signin_links l where l::text ~ %s", token) == 0
        elsewhere = browser.client.post("/auth/link", json={"token": token}, headers={"sec-fetch-site": "cross-site"})
        assert elsewhere.status_code == 403
        used = browser.client.post("/auth/link", json={"token": token}, headers=SAME_ORIGIN)
        assert used.status_code == 204, used.text
        assert (browser.person["origin"], browser.person["tenant"]) == ("link", "acme")
        assert browser.client.get("/admin/v1/tenants").status_code == 200
        assert browser.chat(**browser.proof()).status_code == 200
        again = another().client.post("/auth/link", json={"token": token}, headers=SAME_ORIGIN)
        assert again.status_code == 401
        assert "used already" in again.json()["error"]["message"]

    def test_too_old_is_too_late(self, site: Site, browser: Browser, another: Callable[[], Browser]) -> None:
        operator = another()
        operator.sign_in("ops")
        order = {"name": "late", "tenants": ["acme"], "roles": ["owner"]}
        made = operator.client.post("/admin/v1/signin-links", json=order, headers=operator.proof()).json()
        with site.house.database.superuser() as connection:
            connection.execute("update signin_links set expires_at = now() where name = 'late'")
        token = made["url"].partition("#link=")[2]
        late = browser.client.post("/auth/link", json={"token": token}, headers=SAME_ORIGIN)
        assert late.status_code == 401

    def test_only_operators_make_them(self, browser: Browser) -> None:
        browser.sign_in("anna")
        order = {"name": "mine", "tenants": ["acme"], "roles": ["owner"], "everywhere": ["ops"]}
        assert browser.client.post("/admin/v1/signin-links", json=order, headers=browser.proof()).status_code == 403


def test_the_provider_away_leads_to_a_page_that_says_so(site: Site, browser: Browser) -> None:
    """Last: it changes the provider."""
    where = browser.at_provider("anna")
    site.provider.stop()
    assert browser.come_back(where).headers["location"] == "/de/signin?error=away&next=%2Fde%2Fplayground"
    site.provider.start()

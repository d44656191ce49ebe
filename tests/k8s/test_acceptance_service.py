"""The acceptance script against a real gateway: it sees what is wrong with the service, and passes when it is right."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from k8s.acceptance import service
from k8s.acceptance.site import Check, Site, verdict
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.server import TestServer
from tests.serving.conftest import House, furnished, stub_of
from tests.serving.gateway_process import GatewayProcess, wait_until
from tests.tls import certificate_of


@pytest.fixture(scope="module")
def house(server: TestServer) -> Iterator[House]:
    with furnished(server) as house:
        yield house


@pytest.fixture(scope="module")
def gateway(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def limited(house: House) -> str:
    """A key of a demo tenant."""
    with unit_of_work(house.operator) as session:
        tenant_id = new_tenant(house.operator, "demo")
        return create_key(session, tenant_id, "limited", "tests", requests_per_second=1).text


def said(check: Check, site: Site) -> tuple[str, str]:
    one = verdict("3-4", check, site)
    return one.outcome, one.said


def test_the_service_is_judged_by_what_it_answers(gateway: GatewayProcess, house: House, limited: str) -> None:
    site = Site(gateway_url=gateway.url, api_key=house.key.text, patience_seconds=20)
    for check in (service.two_models_answer, service.usage_is_counted):
        outcome, sentence = said(check, site)
        assert (outcome, "no model that chats is warm" in sentence) == ("FAILED", True)
    with stub_of(house):
        wait_until(lambda: said(service.two_models_answer, site)[0] == "passed")
        assert said(service.two_models_answer, site)[1] == "smollm2-135m-instruct, smollm2-135m-instruct-fast"
        outcome, sentence = said(service.usage_is_counted, site)
        assert (outcome, sentence.endswith(" + 8 tokens")) == ("passed", True)

        with house.database.superuser() as connection, connection.transaction():
            connection.execute("lock table usage_staging in access exclusive mode")  # the journal cannot be shipped
            outcome, sentence = said(service.usage_is_counted, replace(site, patience_seconds=1))
        assert (outcome, "knows nothing: is the gateway's journal shipped?" in sentence) == ("FAILED", True)

        assert said(service.a_limit_holds, site)[0] == "not looked at"
        assert said(service.a_limit_holds, replace(site, limited_key=house.key.text)) == (
            "FAILED",
            "60 requests in a row were let through",
        )
        assert said(service.a_limit_holds, replace(site, limited_key=limited)) == ("passed", "after 1 s again")
        outcome, sentence = said(service.a_limit_holds, replace(site, limited_key="xpu_nobody"))
        assert (outcome, "the limited key gets 401" in sentence) == ("FAILED", True)

        outcome, sentence = said(service.a_month_can_be_billed, site)  # a key for inference only
        assert (outcome, "/v1/invoices answers 403" in sentence) == ("FAILED", True)
        with unit_of_work(house.operator) as session:
            finance = create_key(session, house.tenant_id, "finance", "tests", scopes=["account"]).text
        assert said(service.a_month_can_be_billed, replace(site, api_key=finance)) == ("passed", "listed")
    outcome, sentence = said(service.two_models_answer, replace(site, gateway_url="http://127.0.0.1:9"))
    assert (outcome, "does not answer" in sentence) == ("FAILED", True)


@contextmanager
def serving_tls(certificate: Path) -> Iterator[str]:
    """A server that shakes hands and says nothing; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    door = socket.create_server(("127.0.0.1", 0))

    def take() -> None:
        while True:
            try:
                caller, _ = door.accept()
            except OSError:
                return
            try:
                context.wrap_socket(caller, server_side=True).close()
            except OSError:  # the caller does not trust us
                caller.close()

    threading.Thread(target=take, daemon=True).start()
    yield f"https://localhost:{door.getsockname()[1]}"
    door.close()


def test_the_certificate_is_judged_as_a_browser_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = service.the_certificate_is_valid_for_two_weeks
    assert said(check, Site(gateway_url="http://api.example"))[0] == "not looked at"
    for days, outcome, words in ((30, "passed", "until "), (10, "FAILED", "renew it")):
        certificate = certificate_of("localhost", tmp_path / f"{days}.pem", days=days)
        with serving_tls(certificate) as url:
            untrusted = said(check, Site(gateway_url=url))
            assert (untrusted[0], "certificate verify failed" in untrusted[1]) == ("FAILED", True)
            with monkeypatch.context() as trusting:
                trusting.setenv("SSL_CERT_FILE", str(certificate))
                seen = said(check, Site(gateway_url=url))
            assert (seen[0], words in seen[1]) == (outcome, True)

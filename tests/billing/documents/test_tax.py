"""Rates of exchange, and the register of VAT ids as it is documented."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from billing import exchange_rate
from billing.tax import in_euro
from billing.vat_ids import RegistryUnavailable, Vies


@pytest.mark.parametrize(
    ("month", "published"),
    [("2006-06", "10.1285"), ("2012-10", "8.1390"), ("2015-01", "7.2269"), ("2024-06", "7.8051")],
)
def test_the_mean_of_the_ecbs_days_is_what_the_ministry_published(month: str, published: str) -> None:
    days = exchange_rate.ecb_days("CNY", date.fromisoformat(f"{month}-01"))
    assert exchange_rate.mean(days) == Decimal(published)


def test_a_month_that_is_not_complete_in_the_data_has_no_rate() -> None:
    assert exchange_rate.ecb_days("CNY", date(2099, 1, 1)) == {}
    assert exchange_rate.ecb_days("CNY", date(2005, 3, 1)) == {}  # before the first one
    assert exchange_rate.ecb_days("XXX", date(2024, 6, 1)) == {}
    assert len(exchange_rate.ecb_days("CNY", date(2024, 5, 1))) == 22  # without 1 May: nothing is drawn between days


def test_tax_in_euro_is_rounded_half_up() -> None:
    assert in_euro(Decimal("1.01"), Decimal("2.0000")) == Decimal("0.51")
    assert in_euro(Decimal("-1.01"), Decimal("2.0000")) == Decimal("-0.51")


class TestVies:
    """Against a server that answers as the Commission's REST service is documented to."""

    answers: ClassVar[dict[str, tuple[int, object]]] = {
        "40303265045": (
            200,
            {
                "countryCode": "FR", "vatNumber": "40303265045", "requestDate": "2026-11-28T10:00:00.000Z",
                "valid": True, "requestIdentifier": "WAPIAAAAW1", "name": "CLIENT SARL", "address": "---",
            },
        ),
        "1": (200, {"countryCode": "FR", "vatNumber": "1", "requestDate": "2026-11-28T10:00:00.000Z", "valid": False}),
        "2": (200, {"actionSucceed": False, "errorWrappers": [{"error": "MS_UNAVAILABLE"}]}),
        "3": (500, "no JSON"),
    }  # fmt: skip

    @pytest.fixture
    def vies(self) -> Iterator[tuple[Vies, list[dict[str, Any]]]]:
        answers, asked = self.answers, []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked.append({"path": self.path, **body})
                status, answer = answers[body["vatNumber"]]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())

            def log_message(self, *_: object) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Vies(f"http://127.0.0.1:{server.server_port}/rest-api"), asked
        server.shutdown()
        thread.join()
        server.server_close()

    def test_a_valid_id_comes_with_proof_that_it_was_asked(self, vies: tuple[Vies, list[dict[str, Any]]]) -> None:
        registry, asked = vies
        answer = registry.ask("FR40303265045", "DE999999999")
        assert (answer.is_valid, answer.identifier, answer.name, answer.address) == (
            True, "WAPIAAAAW1", "CLIENT SARL", None,
        )  # fmt: skip
        assert asked == [
            {
                "path": "/rest-api/check-vat-number", "countryCode": "FR", "vatNumber": "40303265045",
                "requesterMemberStateCode": "DE", "requesterNumber": "999999999",
            }
        ]  # fmt: skip

    def test_no_is_an_answer_and_silence_is_none(self, vies: tuple[Vies, list[dict[str, Any]]]) -> None:
        registry, _ = vies
        assert not registry.ask("FR1", None).is_valid
        with pytest.raises(RegistryUnavailable, match="MS_UNAVAILABLE"):
            registry.ask("FR2", None)
        with pytest.raises(RegistryUnavailable):
            registry.ask("FR3", None)
        with pytest.raises(RegistryUnavailable):
            Vies("http://127.0.0.1:9", timeout_seconds=1).ask("FR1", None)

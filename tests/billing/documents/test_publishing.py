"""From a final invoice to its stored documents, and what happens where a rule is broken."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pypdf
import pytest
from sqlalchemy import select, text

from billing import (
    approval,
    correction_finalize,
    correction_order,
    draft,
    invoice_requests,
    vat_confirmation,
    vat_ids,
)
from billing.correction import CorrectionType
from billing.documents import completeness, publish, report
from billing.documents.publish import InvoiceIsDraft, Publication
from billing.documents.schematron import Schematron
from billing.documents.snapshot import from_json, sha256_of
from billing.exchange_rate import ExchangeRateMissing
from billing.tax import TaxTreatmentMissing
from billing.vat_ids import BuyerVatIdInvalid
from studio import tenants
from studio.db.corrections import Correction
from studio.db.documents import DocumentSnapshot, DocumentVerdict, FxRate, VatIdCheck
from studio.db.invoices import InvoiceDocument
from studio.money import Currency
from tests.billing.books import BUYER, Books
from tests.billing.documents.samples import CHINESE, CHINESE_INVOICE, FRENCH, SAMPLES, snapshot

NOON = datetime(2026, 10, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 11, 2, 9, tzinfo=UTC)


@dataclass
class Press:
    """Publishes into a dictionary."""

    books: Books
    official: Schematron
    stored: dict[str, bytes] = field(default_factory=dict)

    def put(self, object_key: str, body: bytes, media_type: str) -> None:
        assert self.stored.setdefault(object_key, body) == body

    def invoice(self, invoice_id: UUID, now: datetime = LATER) -> Publication:
        with self.books.as_role("worker") as session:
            return publish.publish_invoice(session, self.put, self.official, invoice_id, now)

    def correction(self, correction_id: UUID, now: datetime = LATER) -> Publication:
        with self.books.as_role("worker") as session:
            return publish.publish_correction(session, self.put, self.official, correction_id, now)

    def of(self, number: str, suffix: str) -> bytes:
        (body,) = [body for key, body in self.stored.items() if f"/{number}/" in key and key.endswith(f".{suffix}")]
        return body


@pytest.fixture
def press(books: Books, official: Schematron) -> Press:
    return Press(books, official)


def tenant(books: Books, slug: str, buyer: dict[str, Any], currency: Currency, entity: str = "xpulink-de") -> UUID:
    billing = tenants.Billing(entity, currency, "Europe/Berlin", buyer, date(2026, 1, 1))
    with books.as_role("operator") as session:
        return tenants.create_tenant(session, slug, str(buyer["name"]), billing, "test")


def test_the_documents_of_an_invoice_and_its_correction(books: Books, press: Press) -> None:
    gateway, kunde = books.gateway(), books.tenant()
    gateway.uses(kunde, NOON, prompt=150_000_000)
    books.close_day(gateway, kunde, NOON.date())
    next_day = NOON + timedelta(days=1)
    invoice_id = books.final_invoice(gateway, kunde, next_day, LATER, prompt=50_000_001, completion=50_000_000)
    done = press.invoice(invoice_id)
    assert done.kinds == ("pdf", "cii", "ubl", "csv", "json")
    number = done.number
    # The same rows give the same objects under the same names: a run that knows nothing of the first does no harm.
    first = dict(press.stored)
    with books.forging() as session:
        session.execute(text("delete from invoice_documents"))
        publish.publish_invoice(session, press.put, press.official, invoice_id, LATER + timedelta(days=3))
    assert press.stored == first

    rows = list(csv.DictReader(StringIO(press.of(number, "csv").decode())))
    columns = ("line_no", "day", "model", "tier", "unit", "tokens", "amount")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("1", "2026-10-10", "chat", "base", "prompt", "150000000", "3.000000000000"),
        ("1", "2026-10-11", "chat", "base", "prompt", "50000001", "1.000000020000"),
        ("2", "2026-10-11", "chat", "base", "completion", "50000000", "2.000000000000"),
    ]
    assert len({row["key"] for row in rows}) == 2  # the events of a test have a key each
    detail = json.loads(press.of(number, "json"))
    assert (detail["document"]["gross"], detail["detail"][0]["amount"]) == ("7.14", "3.000000000000")
    pdf = pypdf.PdfReader(BytesIO(press.of(number, "pdf")))
    assert pdf.attachments["factur-x.xml"] == [press.of(number, "cii.xml")]
    with books.as_role("auditor") as session:
        kept = session.get_one(DocumentSnapshot, invoice_id)
        verdicts = session.scalars(select(DocumentVerdict).where(DocumentVerdict.snapshot_id == invoice_id)).all()
        documents = session.scalars(select(InvoiceDocument.sha256)).all()
    assert sha256_of(kept.content) == kept.sha256
    assert from_json(kept.content).lines[1].period_from == date(2026, 10, 11)  # BT-134: not that of the invoice
    assert all(key.split("/")[2].split(".")[0] in documents for key in press.stored)
    assert {(one.kind, one.rule_set, one.is_valid, len(one.findings)) for one in verdicts} == {
        ("pdf", "own invariants", True, 0),
        ("cii", "own invariants", True, 0),
        ("ubl", "own invariants", True, 0),
        ("cii", "XML schema CII", True, 0),
        ("ubl", "XML schema UBL", True, 0),
        ("cii", "EN 16931 CII", True, 0),
        ("cii", "Factur-X EN 16931", True, 0),
        ("ubl", "EN 16931 UBL", True, 0),
        ("ubl", "XRechnung 3.0.2 UBL", True, 0),
    }

    for type, wanted in ((CorrectionType.CREDIT_NOTE, {1: Decimal("1.50")}), (CorrectionType.CANCELLATION, {})):
        done = press.correction(_corrected(books, invoice_id, type, wanted))
        assert done.kinds == ("pdf", "cii", "ubl", "csv", "json"), _faults(books)
    content = json.loads(press.of(done.number, "json"))["document"]
    assert (content["net"], content["original"]["net_left"]) == ("-4.50", "4.50")


def test_what_breaks_a_rule_is_not_published_and_the_report_says_why(books: Books, press: Press) -> None:
    buyer = {"name": "㐂公司", "city": "Berlin", "postcode": "10115", "country": "DE", "vat_id": "DE136695976"}
    gateway = books.gateway()
    unprintable = tenant(books, "unprintable", buyer, Currency.EUR)
    wrong_id = tenant(books, "wrong-id", {**buyer, "name": "Ohne Land", "vat_id": "136695976"}, Currency.EUR)
    for one in (unprintable, wrong_id):
        assert not press.invoice(books.final_invoice(gateway, one, NOON, LATER, prompt=50_000_000)).kinds
    assert press.stored == {}
    faults = _faults(books)
    assert [(one.document, one.rule) for one in faults if one.number == "XDE-2026-000001"] == [
        ("pdf", "character_missing")
    ]
    assert "'㐂' in buyer.name" in faults[0].words
    assert {("cii", "BR-CO-09"), ("ubl", "BR-CO-09")} <= {(one.document, one.rule) for one in faults}


def test_what_a_buyer_lacks_is_told_while_it_can_be_put_right() -> None:
    assert completeness.lacks(SAMPLES["domestic"]) == []
    nobody = snapshot(buyer={"name": "Ohne Ort", "country": "DE"})
    assert completeness.lacks(nobody) == ["town", "postcode", "electronic address (an e-mail, or a VAT id)"]
    assert completeness.lacks(replace(CHINESE_INVOICE, buyer={"name": "x", "country": "CN"})) == []


def test_a_draft_has_no_documents(books: Books, press: Press) -> None:
    gateway, kunde = books.gateway(), books.tenant()
    gateway.uses(kunde, NOON, prompt=50_000_000)
    books.close_day(gateway, kunde, NOON.date())
    invoice_id = books.draft(kunde, date(2026, 10, 1), LATER)
    assert invoice_id is not None
    with pytest.raises(InvoiceIsDraft):
        press.invoice(invoice_id)


def test_a_buyer_in_another_member_state_owes_the_tax_and_is_checked(books: Books, press: Press) -> None:
    gateway = books.gateway()
    client = tenant(books, "client", FRENCH, Currency.EUR)
    invoice_id = books.final_invoice(gateway, client, NOON, LATER, prompt=50_000_000)
    row = books.invoice(invoice_id)
    assert (row.tax_category, row.tax, row.tax_details["exemption_code"]) == ("AE", Decimal("0.00"), "VATEX-EU-AE")
    done = press.invoice(invoice_id)
    assert done.kinds, _faults(books)
    assert "Steuerschuldnerschaft des Leistungsempfängers" in press.of(done.number, "cii.xml").decode()
    with books.as_role("auditor") as session:
        assert session.execute(select(VatIdCheck.vat_id, VatIdCheck.method)).all() == [("FR40303265045", "format")]
    for slug, vat_id in (("none", None), ("wrong", "FR40303265046")):
        other = tenant(books, slug, {**FRENCH, "vat_id": vat_id}, Currency.EUR)
        gateway.uses(other, NOON, prompt=1_000_000)
        books.close_day(gateway, other, NOON.date())
        with pytest.raises(BuyerVatIdInvalid, match=r"correct the buyer|add it to the buyer"):
            books.draft(other, date(2026, 10, 1), LATER)


def test_a_yuan_invoice_of_a_german_company_shows_its_tax_in_euro_or_waits(books: Books, press: Press) -> None:
    gateway = books.gateway()
    buyer = {"name": "Kunde AG", "street": "Weg 2", "city": "20095 Hamburg", "country": "DE", "vat_id": "DE136695976"}
    kunde = tenant(books, "yuan", buyer, Currency.CNY)
    done = press.invoice(books.final_invoice(gateway, kunde, NOON, LATER, prompt=50_000_000))
    assert done.kinds, _faults(books)
    assert "7.4883 CNY, ECB, 2026-10" in _text(press.of(done.number, "pdf"))
    with books.as_role("auditor") as session:
        derived = session.scalars(select(FxRate)).one()
    assert (derived.rate, derived.source) == (Decimal("7.4883"), "ECB")
    assert derived.derivation.startswith("mean of 22 ECB reference rates")


def test_a_draft_waits_for_its_months_rate_and_is_made_when_that_comes(books: Books) -> None:
    gateway, month = books.gateway(), date(2099, 11, 1)  # of which no data can be complete
    kunde = tenant(books, "yuan", BUYER, Currency.CNY)
    gateway.uses(kunde, NOON.replace(year=2099, month=11), prompt=50_000_000)
    books.close_day(gateway, kunde, date(2099, 11, 10))
    now = datetime(2099, 12, 1, 9, tzinfo=UTC)
    with books.as_role("operator") as session:
        request = invoice_requests.request_invoice(
            session, tenant_id=kunde, month=month, by="test", reason="test", now=now
        )
    with books.as_role("worker") as session, pytest.raises(ExchangeRateMissing, match="Enter the published one"):
        draft.draft(session, request.id, now)
    with books.as_role("worker") as session:
        assert [one.id for one in invoice_requests.unanswered(session)] == [request.id]
        session.add(FxRate(quote="CNY", month=month, rate=Decimal("8.1234"), source="BMF", derivation="published"))
    with books.as_role("worker") as session:
        invoice_id = draft.draft(session, request.id, now)
    assert invoice_id is not None
    assert books.invoice(invoice_id).tax_details["euro"]["units_per_euro"] == "8.1234"
    with books.as_role("worker") as session:
        assert invoice_requests.unanswered(session) == []


def test_outside_the_eu_and_in_china(books: Books, press: Press) -> None:
    gateway = books.gateway()
    abroad = tenant(books, "abroad", CHINESE, Currency.EUR)
    done = press.invoice(books.final_invoice(gateway, abroad, NOON, LATER, prompt=50_000_000))
    assert done.kinds, _faults(books)
    assert "上海示例科技有限公司" in _text(press.of(done.number, "pdf"))
    inland = tenant(books, "inland", CHINESE, Currency.CNY, "xpulink-cn")
    done = press.invoice(books.final_invoice(gateway, inland, NOON, LATER, prompt=50_000_000))
    assert done.kinds == ("pdf", "fapiao", "csv", "json"), _faults(books)
    assert "本文件不是发票" in _text(press.of(done.number, "pdf"))
    exported = tenant(books, "exported", FRENCH, Currency.CNY, "xpulink-cn")
    gateway.uses(exported, NOON, prompt=1_000_000)
    books.close_day(gateway, exported, NOON.date())
    with pytest.raises(TaxTreatmentMissing, match="add a row to tax_treatments"):
        books.draft(exported, date(2026, 10, 1), LATER)


def test_the_register_of_vat_ids_is_asked_once_and_its_no_stops_the_draft(books: Books) -> None:
    @dataclass
    class Register:
        says: bool
        asked: int = 0

        def ask(self, vat_id: str, requester: str | None) -> vat_ids.RegistryAnswer:
            self.asked += 1
            return vat_ids.RegistryAnswer(self.says, "2026-11-02", "WAPI1", None, None)

    gateway, client = books.gateway(), tenant(books, "client", FRENCH, Currency.EUR)
    gateway.uses(client, NOON, prompt=1_000_000)
    books.close_day(gateway, client, NOON.date())
    register = Register(says=False)
    month = date(2026, 10, 1)
    with books.as_role("worker") as session:
        nobody = vat_confirmation.Register()
        assert vat_confirmation.confirm_buyer(session, nobody, client, month, LATER) is None
        configured = vat_confirmation.Register(register)
        assert vat_confirmation.confirm_buyer(session, configured, client, month, LATER) is False
    with pytest.raises(BuyerVatIdInvalid, match="register says"):
        books.draft(client, date(2026, 10, 1), LATER)
    register.says = True
    for _ in range(2):
        with books.as_role("worker") as session:
            assert vat_confirmation.confirm_buyer(session, configured, client, month, LATER)
    assert register.asked == 2
    assert books.draft(client, date(2026, 10, 1), LATER) is not None


def _corrected(books: Books, invoice_id: UUID, type: CorrectionType, wanted: dict[int, Decimal]) -> UUID:
    with books.as_role("operator") as session:
        correction_id = correction_order.order(
            session, invoice_id=invoice_id, type=type, wanted=wanted, reason="price was wrong", by="anna", now=LATER
        )
    with books.as_role("auditor") as session:
        gross = correction_order.figures_of(session, session.get_one(Correction, correction_id)).gross
    with books.as_role("operator") as session:
        approved = approval.approve_correction(
            session, correction_id=correction_id, expected_gross=gross, by="bert", now=LATER
        )
    with books.as_role("worker") as session:
        correction_finalize.finalize_correction(session, approved, LATER)
    return correction_id


def _faults(books: Books) -> list[report.Fault]:
    with books.as_role("auditor") as session:
        subjects = [*publish.unpublished_invoices(session), *publish.unpublished_corrections(session)]
        return report.faults(session, subjects)


def _text(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(BytesIO(pdf)).pages)

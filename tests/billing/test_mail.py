"""Mail through a real SMTP server: each once, put off when the server asks, never again when nobody knows."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr
from sqlalchemy import Engine, text

from billing import (
    dunning,
    dunning_mail,
    holds,
    mail_outbox,
    mail_sending,
    mail_texts,
    payment_import,
    payment_reference,
    receivables,
)
from billing.mail_outbox import WaitingMail
from billing.mail_sending import Sent, Server
from billing.receivables import Standing
from studio import clock
from studio.db.invoices import InvoiceDocument
from studio.settings import Settings
from tests.billing import statements
from tests.billing.books import Books, Gateway
from tests.billing.statements import Line
from tests.server import free_port
from tests.tls import certificate_of

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
OVERDUE = datetime(2026, 12, 22, 9, tzinfo=UTC)  # since 15 December
BUYER = {"email": "buyer@example.com", "country": "DE"}
FACTS = {"number": "X-1", "amount": "1.00", "currency": "EUR", "due_on": "2026-12-15", "level": 1, "seller": "XPULINK"}


class Mailbox:
    """What the server does with a mail, and what it has taken."""

    def __init__(self) -> None:
        self.answer = "250 OK"
        self.on_data: Callable[[], None] = lambda: None
        self.taken: list[EmailMessage] = []

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer.startswith(("4", "5")):
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        self.taken.append(parsed)
        self.on_data()
        if self.answer == "hang up":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return self.answer


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp(mailbox: Mailbox) -> Iterator[Server]:
    with listening(mailbox) as port:
        yield configured(port)


class listening:  # noqa: N801  # a context manager
    """A mail server on loopback; its port."""

    def __init__(self, mailbox: Mailbox, **options: Any) -> None:
        self._controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)

    def __enter__(self) -> int:
        self._controller.start()
        return int(self._controller.port)

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def configured(port: int, **settings: Any) -> Server:
    given: dict[str, Any] = {"smtp_tls": "none", "smtp_from": "billing@xpulink.example"} | settings
    server = Server.from_settings(Settings(smtp_host="127.0.0.1", smtp_port=port, **given))
    assert server is not None
    return server


@pytest.fixture
def worker(books: Books) -> Engine:
    with books.as_role("worker"):
        return books.engines["worker"]


def reminder(books: Books, tenant: UUID, key: str = "dunning X-1", buyer: dict[str, str] = BUYER) -> UUID | None:
    with books.as_role("worker") as session:
        return mail_outbox.write(session, "dunning", key, tenant, buyer, FACTS, clock.now())


def send(worker: Engine, server: Server) -> list[Sent]:
    return mail_sending.send_due(worker, server, lambda key: None)


def waiting(books: Books, after: timedelta = timedelta(0)) -> list[WaitingMail]:
    with books.as_role("worker") as session:
        return mail_outbox.waiting(session, clock.now() + after)


def test_an_invoice_is_mailed_once_with_its_pdf(books: Books, worker: Engine, mailbox: Mailbox, smtp: Server) -> None:
    tenant = books.tenant()
    with books.database.superuser() as connection:
        connection.execute("""update tenant_billing set buyer = buyer || '{"email": "ap@kunde.example"}'""")
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, LATER, prompt=200_000_000)
    pdf = b"%PDF-1.7 of the invoice"
    stored = {"the invoice": pdf}
    with books.as_role("worker") as session:
        assert mail_outbox.write_documents(session, clock.now()) == []  # not before there is a document
        row = {"object_key": "the invoice", "sha256": hashlib.sha256(pdf).hexdigest(), "size_bytes": len(pdf)}
        session.add(InvoiceDocument(invoice_id=invoice_id, kind="pdf", **row))
    for expected in (1, 0):
        with books.as_role("worker") as session:
            assert len(mail_outbox.write_documents(session, clock.now())) == expected
        sent = mail_sending.send_due(worker, smtp, stored.get)
        assert [one.outcome for one in sent] == ["sent"] * expected
    (mail,) = mailbox.taken
    (attachment,) = mail.iter_attachments()
    number = books.invoice(invoice_id).number
    assert (mail["to"], mail["subject"]) == ("ap@kunde.example", f"Rechnung {number}")
    assert attachment.get_filename() == f"{number}.pdf"
    assert [attachment.get_content()] == list(stored.values())
    body = mail.get_body()
    assert body is not None
    assert "4.76 EUR" in body.get_content()


def test_a_document_that_is_not_the_one_meant_is_not_sent(books: Books, worker: Engine, smtp: Server) -> None:
    tenant = books.tenant()
    meant = mail_outbox.Attachment("a", "a.pdf", hashlib.sha256(b"meant").hexdigest())
    with books.as_role("worker") as session:
        mail_outbox.write(session, "dunning", "x", tenant, BUYER, FACTS, clock.now(), meant)
    (sent,) = mail_sending.send_due(worker, smtp, lambda key: b"forged")
    assert (sent.outcome, "not what was to be sent" in sent.answer) == ("deferred", True)


def test_what_was_written_or_has_no_address_is_not_written(books: Books) -> None:
    tenant = books.tenant()
    assert reminder(books, tenant) is not None
    assert reminder(books, tenant) is None
    assert reminder(books, tenant, "other", {"country": "DE"}) is None
    with books.database.superuser() as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute("update mails set recipient = 'x'")


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(
    books: Books, worker: Engine, mailbox: Mailbox, smtp: Server
) -> None:
    reminder(books, books.tenant())
    mailbox.answer = "451 later"
    (first,) = send(worker, smtp)
    assert (first.outcome, first.answer) == ("deferred", "451 later")
    assert send(worker, smtp) == []  # its pause is not over
    assert [(mail.state, mail.attempts) for mail in waiting(books)] == [("put off", 1)]
    assert [mail.state for mail in waiting(books, timedelta(minutes=6))] == ["due"]
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update mail_attempts set began_at = began_at - interval '6 minutes'")
    mailbox.answer = "550 no such user"
    (second,) = send(worker, smtp)
    assert (second.outcome, second.answer) == ("refused", "550 no such user")
    assert waiting(books, timedelta(days=9)) == []
    assert mailbox.taken == []


def test_a_server_that_is_away_puts_mail_off(books: Books, worker: Engine) -> None:
    reminder(books, books.tenant())
    (sent,) = send(worker, configured(free_port()))
    assert (sent.outcome, "ConnectionRefused" in sent.answer) == ("deferred", True)


def test_a_crash_between_sending_and_marking_never_sends_twice(
    books: Books, worker: Engine, mailbox: Mailbox, smtp: Server
) -> None:
    """The process dies when the server has the text: at the server the mail is there once, here it is uncertain."""
    reminder(books, books.tenant())

    def die() -> None:
        with books.database.superuser() as connection:  # what a killed process leaves: an attempt without an outcome
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'studio_worker'")
            connection.execute("alter table mail_attempts rename column answer to no_answer")

    mailbox.on_data = die
    with pytest.raises(Exception, match="answer"):
        send(worker, smtp)
    with books.database.superuser() as connection:
        connection.execute("alter table mail_attempts rename column no_answer to answer")
    assert len(mailbox.taken) == 1
    assert [mail.state for mail in waiting(books)] == ["being sent"]
    assert [mail.state for mail in waiting(books, timedelta(minutes=11))] == ["uncertain"]
    assert send(worker, smtp) == []
    assert len(mailbox.taken) == 1


def test_a_line_that_breaks_after_the_text_is_uncertain(
    books: Books, worker: Engine, mailbox: Mailbox, smtp: Server
) -> None:
    reminder(books, books.tenant())
    mailbox.answer = "hang up"
    (sent,) = send(worker, smtp)
    assert (sent.outcome, len(mailbox.taken)) == ("uncertain", 1)
    assert [mail.state for mail in waiting(books, timedelta(days=9))] == ["uncertain"]


def test_racing_senders_send_once(books: Books, worker: Engine, mailbox: Mailbox, smtp: Server) -> None:
    tenant = books.tenant()
    for number in range(4):
        reminder(books, tenant, f"dunning {number}")
    with ThreadPoolExecutor(3) as threads:
        sent = [one for some in threads.map(lambda _: send(worker, smtp), range(3)) for one in some]
    assert [one.outcome for one in sent] == ["sent"] * 4
    assert len({mail["message-id"] for mail in mailbox.taken}) == len(mailbox.taken) == 4


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_encrypted_and_signed_in(
    books: Books, worker: Engine, mailbox: Mailbox, tmp_path: Path, tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificate_of("localhost", tmp_path / "mail.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == (b"studio", b"hush"))

    options: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
    if tls == "tls":
        options |= {"ssl_context": context, "auth_require_tls": False, "auth_required": False}
    else:
        options |= {"tls_context": context, "require_starttls": True}
    reminder(books, books.tenant())
    with listening(mailbox, **options) as port:
        settings: dict[str, Any] = {"smtp_tls": tls, "smtp_host": "localhost", "smtp_user": "studio"}
        wanted = Settings(smtp_port=port, smtp_password=SecretStr("hush"), **settings)
        stranger = Server.from_settings(wanted)
        assert stranger is not None
        (untrusted,) = send(worker, stranger)
        assert (untrusted.outcome, "CERTIFICATE_VERIFY_FAILED" in untrusted.answer) == ("deferred", True)
        assert "hush" not in repr(stranger)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with books.database.superuser() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from mail_attempts")
        trusting = Server.from_settings(wanted)
        assert trusting is not None
        (sent,) = send(worker, trusting)
    assert (sent.outcome, len(mailbox.taken)) == ("sent", 1), sent.answer


def test_a_server_without_tls_gets_nothing_where_tls_was_asked_for(
    books: Books, worker: Engine, mailbox: Mailbox, smtp: Server
) -> None:
    reminder(books, books.tenant())
    (sent,) = send(worker, configured(smtp.port, smtp_tls="starttls"))
    assert (sent.outcome, mailbox.taken) == ("deferred", [])


def overdue(books: Books, tenant: UUID, gateway: Gateway, at: datetime) -> Standing:
    """A final invoice of 119.00 EUR, with its reminder proposed."""
    invoice_id = books.final_invoice(gateway, tenant, at, LATER, prompt=5_000_000_000)
    with books.as_role("worker") as session:
        dunning.propose(session, OVERDUE)
        found = receivables.standing(session, invoice_id)
    assert found is not None
    return found


def remind(books: Books) -> int:
    """How many mails were written."""
    with books.as_role("worker") as session:
        return len(dunning_mail.write(session, clock.now()))


def test_a_reminder_is_mailed_once_with_what_is_open_now(
    books: Books, worker: Engine, mailbox: Mailbox, smtp: Server
) -> None:
    tenant = books.tenant()
    with books.database.superuser() as connection:
        connection.execute("""update tenant_billing set buyer = buyer || '{"email": "ap@kunde.example"}'""")
    invoice = overdue(books, tenant, books.gateway(), NOON)
    transfer = statements.camt(Line("19.00", payment_reference.of_invoice(invoice.number), day="2026-12-20"))
    with books.as_role("worker") as session:
        payment_import.import_statement(session, transfer, "december.xml", "tests", OVERDUE)
    assert [remind(books), remind(books)] == [1, 0]
    assert [sent.outcome for sent in send(worker, smtp)] == ["sent"]
    (mail,) = mailbox.taken
    assert mail["Subject"] == f"Zahlungserinnerung: Rechnung {invoice.number}"
    assert "100.00 EUR war am 2026-12-15" in mail.get_content()
    with books.as_role("operator") as session:
        (notice,) = dunning.notices(session, 10)
    assert (notice.amount, notice.mailed_at is not None) == (Decimal("119.00"), True)  # the notice is as proposed


def test_nobody_is_reminded_of_what_is_paid_or_held(books: Books) -> None:
    tenant = books.tenant()
    with books.database.superuser() as connection:
        connection.execute("""update tenant_billing set buyer = buyer || '{"email": "ap@kunde.example"}'""")
    invoice = overdue(books, tenant, books.gateway(), NOON)
    with books.as_role("operator") as session:
        hold_id = holds.hold(session, tenant_id=tenant, reason="they dispute it", by="finance", now=OVERDUE)
    assert remind(books) == 0
    with books.as_role("operator") as session:
        holds.release(session, hold_id=hold_id, reason="settled", by="finance", now=OVERDUE)
    transfer = statements.camt(Line("119.00", payment_reference.of_invoice(invoice.number), day="2026-12-20"))
    with books.as_role("worker") as session:
        payment_import.import_statement(session, transfer, "december.xml", "tests", OVERDUE)
    assert remind(books) == 0


def test_every_text_is_there_in_every_language() -> None:
    facts = FACTS | {
        "invoice": "X-0", "reason": "price", "percent": 80, "used": "8", "budget": "monthly",
    }  # fmt: skip
    for kind in ("invoice", "correction", "alert", "dunning"):
        texts = {mail_texts.compose(kind, language, **facts) for language in ("en", "de", "zh")}  # type: ignore[arg-type]
        assert len(texts) == 3
        assert all("{" not in subject + body and "EUR" in body for subject, body in texts)
        assert all("gutschrift" not in body.lower() for _, body in texts)
    subject, _ = mail_texts.compose("invoice", "en", **(FACTS | {"number": "X\r\nBcc: all@example.com"}))
    assert "\n" not in subject
    assert [mail_texts.language_of({"country": country}) for country in ("AT", "CN", "FR")] == ["de", "zh", "en"]
    assert mail_texts.language_of({"country": "FR", "language": "de"}) == "de"
    said = [mail_texts.compose("dunning", "de", **(FACTS | {"level": level}))[0] for level in (1, 2, 3, 4)]
    assert [subject.partition(":")[0] for subject in said] == [
        "Zahlungserinnerung", "Mahnung", "Letzte Mahnung", "Letzte Mahnung",
    ]  # fmt: skip


def test_without_a_host_there_is_no_mail() -> None:
    assert Server.from_settings(Settings()) is None


def test_the_schema_knows_no_other_outcome(books: Books) -> None:
    reminder(books, books.tenant())
    with pytest.raises(Exception, match="outcome_known"), books.as_role("worker") as session:
        session.execute(
            text("insert into mail_attempts (mail_id, n, began_at, outcome) select id, 1, now(), 'fine' from mails")
        )

"""Sending: each mail once. The attempt is a row before the server is spoken to; what it said is written after.

A mail is tried again only when the server certainly did not take it. If we die, or the line breaks, after its text was
sent, nobody knows: it stays `uncertain` for a person, since a second invoice is worse than a question.
"""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Engine, update
from sqlalchemy.dialects.postgresql import insert

from billing import mail_outbox
from studio import clock
from studio.db.notices import Mail, MailAttempt
from studio.db.sessions import unit_of_work
from studio.settings import Settings

TIMEOUT_SECONDS = 30
Outcome = Literal["sent", "deferred", "refused", "uncertain"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an attempt."""

    mail_id: UUID
    kind: str
    outcome: Outcome
    answer: str


@dataclass(frozen=True, slots=True)
class Server:
    """The mail server of the settings. Password and user are in no repr."""

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    sender: str
    user: str | None
    password: Callable[[], str]
    context: ssl.SSLContext

    @classmethod
    def from_settings(cls, settings: Settings) -> Server | None:
        """None where no server is set: then no mail is written or sent."""
        if settings.smtp_host is None:
            return None
        secret = settings.smtp_password
        return cls(
            settings.smtp_host, settings.smtp_port, settings.smtp_tls, settings.smtp_from, settings.smtp_user,
            lambda: "" if secret is None else secret.get_secret_value(), ssl.create_default_context(),
        )  # fmt: skip

    def connect(self) -> smtplib.SMTP:
        """A connection, encrypted as the settings say, and signed in. Never in clear where TLS was asked for."""
        if self.tls == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=self.context
            )
        else:
            connection = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.ehlo_or_helo_if_needed()
            if self.tls == "starttls":
                connection.starttls(context=self.context)
                connection.ehlo()
            if self.user is not None:
                connection.login(self.user, self.password())
        except BaseException:
            connection.close()
            raise
        return connection


def send_due(database: Engine, server: Server, fetch: Callable[[str], bytes | None]) -> list[Sent]:
    """Send every mail that is due, one after another. `fetch` gives a document by its key in the bucket `invoices`."""
    with unit_of_work(database) as session:
        due = [mail for mail in mail_outbox.waiting(session, clock.now()) if mail.state == "due"]
    return [sent for mail in due if (sent := _send(database, server, fetch, mail.id, mail.attempts + 1)) is not None]


def _send(database: Engine, server: Server, fetch: Callable[[str], bytes | None], mail_id: UUID, n: int) -> Sent | None:
    with unit_of_work(database) as session:
        claim = insert(MailAttempt).values(mail_id=mail_id, n=n, began_at=clock.now())
        claimed = session.execute(claim.on_conflict_do_nothing().returning(MailAttempt.n)).one_or_none()
        mail = session.get_one(Mail, mail_id)
    if claimed is None:
        return None  # another run is sending it
    outcome, answer = _attempt(server, fetch, mail)
    with unit_of_work(database) as session:
        of_attempt = (MailAttempt.mail_id == mail_id, MailAttempt.n == n)
        session.execute(update(MailAttempt).where(*of_attempt).values(outcome=outcome, answer=answer))
    return Sent(mail_id, mail.kind, outcome, answer)


def _attempt(server: Server, fetch: Callable[[str], bytes | None], mail: Mail) -> tuple[Outcome, str]:
    try:
        content = message(mail, server.sender, fetch, mail.created_at).as_bytes(policy=SMTP_POLICY)
        connection = server.connect()
    except (OSError, ValueError, smtplib.SMTPException) as error:
        return "deferred", _in_words(error)
    try:
        return _dialogue(connection, server.sender, mail.recipient, content)
    finally:
        connection.close()


def _dialogue(connection: smtplib.SMTP, sender: str, recipient: str, content: bytes) -> tuple[Outcome, str]:
    try:
        code, answer = connection.mail(sender)
        if code < 300:
            code, answer = connection.rcpt(recipient)
        if code >= 300:
            return _refusal(code, answer)
    except (OSError, smtplib.SMTPException) as error:
        return "deferred", _in_words(error)
    try:
        code, answer = connection.data(content)
    except smtplib.SMTPDataError as error:  # before the text was sent
        return _refusal(error.smtp_code, error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        return "uncertain", _in_words(error)
    return ("sent", _said(code, answer)) if code < 300 else _refusal(code, answer)


def message(mail: Mail, sender: str, fetch: Callable[[str], bytes | None], at: datetime) -> EmailMessage:
    """The mail as it is sent. ValueError when its document is not there, or not the one that was meant."""
    composed = EmailMessage()
    composed["From"], composed["To"], composed["Subject"] = sender, mail.recipient, mail.subject
    composed["Date"] = format_datetime(at)
    composed["Message-ID"] = f"<{mail.id}@{sender.rpartition('@')[2]}>"
    composed.set_content(mail.body)
    if mail.attachment_key is not None and mail.attachment_name is not None:
        document = fetch(mail.attachment_key)
        if document is None or hashlib.sha256(document).hexdigest() != mail.attachment_sha256:
            raise ValueError(f"the document {mail.attachment_name} is not what was to be sent")
        composed.add_attachment(document, maintype="application", subtype="pdf", filename=mail.attachment_name)
    return composed


def _refusal(code: int, answer: bytes | str) -> tuple[Outcome, str]:
    return ("refused" if code >= 500 else "deferred"), _said(code, answer)


def _said(code: int, answer: bytes | str) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return f"{code} {text}"[:500]


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]

"""Bank statements as banks write them, for the tests of money in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

OURS = "DE02120300000000202051"
THEIRS = "DE89370400440532013000"


@dataclass(frozen=True)
class Line:
    """One entry of a statement, on its way into a file."""

    amount: str
    text: str = ""
    day: str = "2026-12-03"
    payer: str = "Kunde AG"
    reference: str | None = None  # the bank's own
    end_to_end: str = "NOTPROVIDED"
    currency: str = "EUR"
    is_return: bool = False
    status: str = "BOOK"
    more: Sequence[tuple[str, str]] = ()  # of a batch: amount and text of each transaction


def camt(
    *lines: Line, version: Literal["02", "08"] = "08", account: str = OURS, prolog: str = "", statements: int = 1
) -> bytes:
    """A CAMT.053 document with all lines on each of its statements."""
    entries = "".join(_entry(line, version) for line in lines)
    whole = f"<Stmt><Id>1</Id><Acct><Id><IBAN>{account}</IBAN></Id></Acct>{entries}</Stmt>" * statements
    namespace = f"urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}"
    document = f'<Document xmlns="{namespace}"><BkToCstmrStmt>{whole}</BkToCstmrStmt></Document>'
    return f'<?xml version="1.0" encoding="UTF-8"?>{prolog}{document}'.encode()


def csv(*lines: Line, account: str = OURS) -> bytes:
    """The same as CSV."""
    rows = [
        f"{account},{line.day},{line.amount},{line.currency},{line.payer},{THEIRS},{line.text},{line.reference or ''},"
        f"{'true' if line.is_return else ''}"
        for line in lines
    ]
    header = "account,booked_on,amount,currency,payer,payer_account,text,bank_reference,is_return"
    return "\r\n".join([header, *rows, ""]).encode()


def _entry(line: Line, version: str) -> str:
    out = line.amount.startswith("-")
    status = f"<Cd>{line.status}</Cd>" if version == "08" else line.status
    name = f"<Nm>{escape(line.payer)}</Nm>"
    party = "Cdtr" if out else "Dbtr"
    parties = (
        f"<RltdPties><{party}>{f'<Pty>{name}</Pty>' if version == '08' else name}</{party}>"
        f"<{party}Acct><Id><IBAN>{THEIRS}</IBAN></Id></{party}Acct></RltdPties>"
    )
    details = "".join(
        f"<TxDtls><Refs><EndToEndId>{line.end_to_end}</EndToEndId></Refs>{amount}{parties}"
        f"<RmtInf><Ustrd>{escape(text)}</Ustrd></RmtInf></TxDtls>"
        for amount, text in [(f'<Amt Ccy="{line.currency}">{amount}</Amt>', text) for amount, text in line.more]
        or [("", line.text)]
    )
    reference = f"<AcctSvcrRef>{line.reference}</AcctSvcrRef>" if line.reference else ""
    reversal = "<RvslInd>true</RvslInd>" if line.is_return else ""
    return (
        f'<Ntry><Amt Ccy="{line.currency}">{line.amount.removeprefix("-")}</Amt>'
        f"<CdtDbtInd>{'DBIT' if out else 'CRDT'}</CdtDbtInd>{reversal}<Sts>{status}</Sts>"
        f"<BookgDt><Dt>{line.day}</Dt></BookgDt>{reference}<NtryDtls>{details}</NtryDtls></Ntry>"
    )

"""CAMT.053 (ISO 20022 bank-to-customer statement), versions .02 and .08, to entries. Pure.

Only entries with the status BOOK count. A batch entry with amounts of its single transactions is taken apart when these
add up; otherwise it stays one entry, which waits for a person. The parser loads no entity and nothing from elsewhere,
and a file with a document type is refused: statements have none, and bombs need one.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from lxml import etree

from billing.bank_statement import (
    MOST_ENTRIES,
    BankEntry,
    Statement,
    StatementUnreadable,
    account_number,
    currency,
    day,
    money,
    numbered,
    require_size,
    text_of,
)

NAMESPACES = tuple(f"urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}" for version in ("02", "08"))
# Sub-families of ISO's bank transaction codes that take an earlier movement back.
_RETURNS = frozenset({"RRTN", "UPDD", "UPCT", "PRDD", "RPCR", "RIMB"})
_ABSENT = frozenset({"NOTPROVIDED", "NONREF", "NOT PROVIDED"})


def parse(body: bytes) -> Statement:
    """All statements of one file. StatementUnreadable, with the place, unless every entry can be read."""
    require_size(body)
    root = _root(body)
    statements = root.findall("{*}BkToCstmrStmt/{*}Stmt")
    if not statements:
        raise StatementUnreadable("The file holds no statement (BkToCstmrStmt/Stmt).")
    entries: list[BankEntry] = []
    ignored = 0
    for statement in statements:
        account = _account(statement)
        of_statement: list[BankEntry] = []
        for entry in statement.findall("{*}Ntry"):
            if _status(entry) != "BOOK":
                ignored += 1
                continue
            moving = [one for one in _entries(entry, account) if one.amount]
            ignored += not moving
            of_statement += moving
        # Numbered by statement: an entry that two statements of the file tell of is one.
        entries += numbered(of_statement)
        if len(entries) > MOST_ENTRIES:
            raise StatementUnreadable(f"The file has more than {MOST_ENTRIES} entries: import shorter periods.")
    return Statement("camt.053", tuple({entry.key: entry for entry in entries}.values()), ignored)


def _root(body: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise StatementUnreadable(f"The file is no well-formed XML: {error}") from error
    if root.getroottree().docinfo.doctype:
        raise StatementUnreadable("The file has a document type (DOCTYPE), which no statement has. It was not read.")
    namespace = etree.QName(root).namespace
    if namespace not in NAMESPACES:
        raise StatementUnreadable(
            f"The file is {namespace or 'XML without a namespace'}, not camt.053.001.02 or .08: ask the bank for one of"
            " these, or use CSV."
        )
    return root


def _account(statement: etree._Element) -> str:
    found = _text(statement, "{*}Acct/{*}Id/{*}IBAN") or _text(statement, "{*}Acct/{*}Id/{*}Othr/{*}Id")
    if found is None:
        raise StatementUnreadable(f"{_where(statement)}: the statement does not name its account (Acct/Id).")
    return account_number(found)


def _status(entry: etree._Element) -> str | None:
    return _text(entry, "{*}Sts/{*}Cd") or _text(entry, "{*}Sts")  # .08 and .02


def _entries(entry: etree._Element, account: str) -> Iterator[BankEntry]:
    where = _where(entry)
    total, code = _amount(entry, where)
    sign = _sign(entry, where)
    booked = _text(entry, "{*}BookgDt/{*}Dt") or _text(entry, "{*}BookgDt/{*}DtTm")
    if booked is None:
        raise StatementUnreadable(f"{where}: the entry has no booking date (BookgDt).")
    base = BankEntry(
        account=account,
        currency=currency(code, where),
        amount=sign * total,
        booked_on=day(booked, where),
        bank_reference=_reference(entry, "{*}AcctSvcrRef"),
        remittance=_text(entry, "{*}AddtlNtryInf") or "",
        is_return=_is_return(entry),
    )
    details = entry.findall("{*}NtryDtls/{*}TxDtls")
    amounts = [_detail_amount(detail, code) for detail in details]
    if len(details) > 1 and None not in amounts and sum(filter(None, amounts), Decimal(0)) == total:
        for n, (detail, amount) in enumerate(zip(details, amounts, strict=True), start=1):
            assert amount is not None
            yield _with_details(base, detail, sign * amount, n)
    elif len(details) == 1:
        yield _with_details(base, details[0], base.amount, None)
    else:
        yield base


def _with_details(base: BankEntry, detail: etree._Element, amount: Decimal, n: int | None) -> BankEntry:
    """One transaction. `n`: its number in a batch, whose reference is not enough to tell it from its neighbours."""
    party = "Dbtr" if amount > 0 else "Cdtr"
    name = _text(detail, f"{{*}}RltdPties/{{*}}{party}/{{*}}Pty/{{*}}Nm") or _text(
        detail, f"{{*}}RltdPties/{{*}}{party}/{{*}}Nm"
    )
    other = f"{{*}}RltdPties/{{*}}{party}Acct/{{*}}Id"
    payer_account = _text(detail, f"{other}/{{*}}IBAN") or _text(detail, f"{other}/{{*}}Othr/{{*}}Id")
    own = _reference(detail, "{*}Refs/{*}AcctSvcrRef")
    of_batch = None if base.bank_reference is None or n is None else f"{base.bank_reference}/{n}"
    unstructured = [text_of(one.text) for one in detail.findall("{*}RmtInf/{*}Ustrd")]
    structured = [text_of(one.text) for one in detail.findall("{*}RmtInf/{*}Strd/{*}CdtrRefInf/{*}Ref")]
    texts = [text for text in (*structured, *unstructured) if text]
    return BankEntry(
        account=base.account,
        currency=base.currency,
        amount=amount,
        booked_on=base.booked_on,
        payer=name,
        payer_account=account_number(payer_account) if payer_account else None,
        remittance=text_of(" ".join(texts)) or base.remittance,
        bank_reference=own or (of_batch if n is not None else base.bank_reference),
        end_to_end_id=_reference(detail, "{*}Refs/{*}EndToEndId"),
        is_return=base.is_return or _is_return(detail),
    )


def _is_return(element: etree._Element) -> bool:
    if _text(element, "{*}RvslInd") in ("true", "1") or element.find("{*}RtrInf") is not None:
        return True
    return _text(element, "{*}BkTxCd/{*}Domn/{*}Fmly/{*}SubFmlyCd") in _RETURNS


def _amount(element: etree._Element, where: str) -> tuple[Decimal, str]:
    amount = element.find("{*}Amt")
    if amount is None or amount.text is None:
        raise StatementUnreadable(f"{where}: the entry has no amount (Amt).")
    return money(amount.text.strip(), where), amount.get("Ccy", "")


def _detail_amount(detail: etree._Element, code: str) -> Decimal | None:
    """In the account's currency; None where the bank does not say."""
    for path in ("{*}Amt", "{*}AmtDtls/{*}TxAmt/{*}Amt"):
        amount = detail.find(path)
        if amount is not None and amount.text and amount.get("Ccy") == code:
            return money(amount.text.strip(), _where(detail))
    return None


def _sign(entry: etree._Element, where: str) -> int:
    # With RvslInd the indicator already is that of the reversal: a returned debit comes as CRDT.
    sign = {"CRDT": 1, "DBIT": -1}.get(_text(entry, "{*}CdtDbtInd") or "")
    if sign is None:
        raise StatementUnreadable(f"{where}: the entry is neither CRDT nor DBIT (CdtDbtInd).")
    return sign


def _reference(element: etree._Element, path: str) -> str | None:
    found = _text(element, path)
    return None if found is None or found.upper() in _ABSENT else found


def _text(element: etree._Element, path: str) -> str | None:
    found = element.find(path)
    return None if found is None else text_of(found.text)


def _where(element: etree._Element) -> str:
    return f"line {element.sourceline}"

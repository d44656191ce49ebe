"""A bank statement as CSV, for banks without CAMT. Pure. The header is ours, so that nothing is guessed:

    account,booked_on,amount,currency,payer,payer_account,text,bank_reference,is_return

UTF-8, commas, days as 2026-12-03, amounts as 119.00 or -119.00 (money that left). `account`, `booked_on`, `amount` and
`currency` are needed; the other columns may be empty or absent. `is_return` is `true` where the bank took money back.
"""

from __future__ import annotations

import csv
import io

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

NEEDED = ("account", "booked_on", "amount", "currency")
OPTIONAL = ("payer", "payer_account", "text", "bank_reference", "is_return")


def parse(body: bytes) -> Statement:
    """All rows of one file. StatementUnreadable, with the line, unless every row can be read."""
    require_size(body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StatementUnreadable(f"The file is not UTF-8 (byte {error.start}): save it as CSV UTF-8.") from error
    try:
        return Statement("csv", numbered(_rows(text)), 0)
    except csv.Error as error:
        raise StatementUnreadable(f"The file is no CSV: {error}.") from error


def _rows(text: str) -> list[BankEntry]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = reader.fieldnames or []
    missing = [name for name in NEEDED if name not in columns]
    unknown = [name for name in columns if name not in (*NEEDED, *OPTIONAL)]
    if missing or unknown or len(set(columns)) != len(columns):
        raise StatementUnreadable(
            f"The first line must be {','.join((*NEEDED, *OPTIONAL))}; missing: {', '.join(missing) or 'none'},"
            f" unknown: {', '.join(unknown)[:200] or 'none'}."
        )
    entries: list[BankEntry] = []
    for row in reader:
        if len(entries) == MOST_ENTRIES:
            raise StatementUnreadable(f"The file has more than {MOST_ENTRIES} rows: import shorter periods.")
        entries.append(_entry(row, f"line {reader.line_num}", len(columns)))
    return entries


def _entry(row: dict[str, str | None], where: str, columns: int) -> BankEntry:
    if len(row) != columns or None in row.values():
        raise StatementUnreadable(f"{where} has not as many fields as the first line.")
    values = {name: (value or "").strip() for name, value in row.items()}
    account = account_number(values["account"])
    if not account:
        raise StatementUnreadable(f"{where}: the account is empty.")
    flag = values.get("is_return", "").lower()
    if flag not in ("", "true", "false"):
        raise StatementUnreadable(f"{where}: is_return is `true`, `false` or empty, not {flag[:40]!r}.")
    sign = -1 if values["amount"].startswith("-") else 1
    amount = sign * money(values["amount"].removeprefix("-"), where)
    if not amount:
        raise StatementUnreadable(f"{where}: the amount is zero.")
    other = text_of(values.get("payer_account"))
    return BankEntry(
        account=account,
        currency=currency(values["currency"], where),
        amount=amount,
        booked_on=day(values["booked_on"], where),
        payer=text_of(values.get("payer")),
        payer_account=account_number(other) if other else None,
        remittance=text_of(values.get("text")) or "",
        bank_reference=text_of(values.get("bank_reference")),
        is_return=flag == "true",
    )

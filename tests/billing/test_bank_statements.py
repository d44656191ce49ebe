"""Files of banks: read whole or refused, and every entry has one key wherever it appears."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import bank_statement, camt, statement_csv
from billing.bank_statement import StatementUnreadable
from billing.payment_import import read
from studio.errors import PayloadTooLarge
from tests.billing import statements
from tests.billing.statements import OURS, THEIRS, Line

LINE = Line("119.00", "RF70 XDE2 0260 0000 1", reference="4711", end_to_end="E2E-1")


@pytest.mark.parametrize("version", ["02", "08"])
def test_an_entry_is_read_from_both_versions(version: Literal["02", "08"]) -> None:
    (entry,) = camt.parse(statements.camt(LINE, version=version)).entries
    assert (entry.account, entry.amount, entry.currency) == (OURS, Decimal("119.00"), "EUR")
    assert (entry.payer, entry.payer_account, entry.end_to_end_id) == ("Kunde AG", THEIRS, "E2E-1")
    assert (entry.remittance, entry.bank_reference, str(entry.booked_on)) == (LINE.text, "4711", "2026-12-03")


def test_camt_and_csv_of_one_account_tell_of_the_same_entry() -> None:
    (from_xml,) = read(statements.camt(LINE)).entries
    (from_csv,) = read(statements.csv(LINE)).entries
    assert from_xml.key == from_csv.key


def test_two_equal_transfers_are_two_and_two_statements_of_them_are_still_two() -> None:
    same = Line("10.00", "thank you")
    assert len({entry.key for entry in camt.parse(statements.camt(same, same)).entries}) == 2
    assert len(camt.parse(statements.camt(same, same, statements=2)).entries) == 2


@given(st.permutations([Line("1.00", "a"), Line("1.00", "b"), Line("1.00", "a"), Line("-1.00", "a", is_return=True)]))
def test_keys_do_not_hang_on_the_order_of_entries(lines: list[Line]) -> None:
    expected = {entry.key for entry in camt.parse(statements.camt(*sorted(lines, key=str))).entries}
    assert {entry.key for entry in camt.parse(statements.camt(*lines)).entries} == expected
    assert len(expected) == 4


def test_a_batch_is_taken_apart_when_it_adds_up_and_else_left_whole() -> None:
    batch = Line("30.00", reference="B1", more=[("10.00", "one"), ("20.00", "two")])
    entries = camt.parse(statements.camt(batch)).entries
    assert [(str(entry.amount), entry.remittance) for entry in entries] == [("10.00", "one"), ("20.00", "two")]
    assert len({entry.key for entry in entries}) == 2
    short = Line("30.00", reference="B1", more=[("10.00", "one"), ("19.00", "two")])
    assert [str(entry.amount) for entry in camt.parse(statements.camt(short)).entries] == ["30.00"]


def test_what_is_not_booked_yet_is_left_for_the_next_statement() -> None:
    said = camt.parse(statements.camt(LINE, Line("5.00", status="PDNG")))
    assert (len(said.entries), said.ignored) == (1, 1)


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
) + "]>"  # fmt: skip
LAUGHS = statements.camt(Line("1.00", "LAUGH"), prolog=BOMB).replace(b"LAUGH", b"&j;")
FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<Document", "no well-formed XML"),
        (LAUGHS, "amplification|document type"),
        (statements.camt(LINE, prolog=FILE), "document type"),
        (statements.camt(LINE).replace(b"camt.053.001.08", b"camt.052.001.08"), "not camt.053"),
        (b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'/>", "no statement"),
        (statements.camt(Line("1.00", currency="USD")), "'USD' is not supported"),
        (statements.camt(Line("1.00", currency="CNH")), "write CNY"),
        (statements.camt(Line("1,00")), "no amount"),
        (statements.camt(Line("1.001")), "more decimals"),
        (statements.camt(Line("1e5")), "no amount"),
        (statements.camt(Line("1.00", day="2026-13-01")), "no day"),
        (statements.camt(LINE).replace(b"CRDT", b"BOTH"), "neither CRDT nor DBIT"),
        (statements.csv(LINE).replace(b"amount", b"Betrag"), "missing: amount, unknown: Betrag"),
        (statements.csv(LINE) + b"DE1,2026-12-03\r\n", "line 3 has not as many fields"),
        (statements.csv(Line("NaN")), "no amount"),
        (statements.csv(Line("0.00")), "is zero"),
        (statements.csv(LINE).replace(b"Kunde", b"\xff"), "not UTF-8"),
        (b"account,amount\r\n", "missing: booked_on, currency"),
        (b"", "missing: account"),
    ],
)  # fmt: skip
def test_what_is_no_statement_is_refused_with_the_place(body: bytes, words: str) -> None:
    with pytest.raises(StatementUnreadable, match=words):
        read(body)


@pytest.mark.parametrize("parse", [camt.parse, statement_csv.parse])
def test_a_file_over_the_limit_is_not_looked_into(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(PayloadTooLarge):
        parse(b"<" * (bank_statement.MOST_BYTES + 1))


@settings(max_examples=50)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_is_too_strange(body: bytes) -> None:
    with suppress(StatementUnreadable):
        assert read(body).entries == ()  # by chance an empty one, never an error of another kind

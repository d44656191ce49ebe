"""The chain of hashes: the first day that is not what it was is named, whatever was done to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import chain
from billing.chain import GENESIS, BookedEntry, BookedTransaction, Content, Link

FIRST = date(2026, 11, 26)
DAYS = 4


def transaction(day: date, n: int) -> BookedTransaction:
    sides = (BookedEntry(1, "de/bank/EUR//", "EUR", Decimal(n), None), BookedEntry(2, "a", "EUR", Decimal(-n), 1))
    at = datetime.combine(day, datetime.min.time(), UTC)
    key = f"{day}-{n}"
    return BookedTransaction(
        UUID(int=n), key, "invoice", "de", UUID(int=7), "inv", day, "finance", "text", at, day, sides
    )  # fmt: skip


LEDGER = {
    FIRST + timedelta(days=n): [transaction(FIRST + timedelta(days=n), k) for k in range(1, n + 2)] for n in range(DAYS)
}


def contents(ledger: Mapping[date, list[BookedTransaction]]) -> dict[date, Content]:
    return {day: chain.content(of_day) for day, of_day in ledger.items()}


def links(ledger: Mapping[date, list[BookedTransaction]]) -> list[Link]:
    previous, made = GENESIS, []
    for day, of_day in contents(ledger).items():
        made.append(chain.link(previous, day, of_day))
        previous = made[-1].sha256
    return made


CHAIN = links(LEDGER)
KEPT = {one.day: one.sha256 for one in CHAIN}


def test_a_ledger_that_nobody_touched_holds() -> None:
    assert chain.first_break(CHAIN, contents(LEDGER), KEPT) is None
    assert chain.first_break(CHAIN, contents(LEDGER), {}) is None
    assert chain.first_break([], {}, {}) is None


def test_a_day_that_is_not_closed_yet_breaks_nothing() -> None:
    today = FIRST + timedelta(days=DAYS)
    assert chain.first_break(CHAIN, contents(LEDGER | {today: [transaction(today, 1)]}), KEPT) is None


@given(
    st.integers(0, DAYS - 1),
    st.sampled_from(
        [
            {"key": "other"}, {"kind": "credit_use"}, {"legal_entity_id": "cn"}, {"tenant_id": UUID(int=8)},
            {"subject": "x"}, {"booked_on": date(2020, 1, 1)}, {"booked_by": "nobody"}, {"description": ""},
            {"recorded_at": datetime(2026, 1, 1, tzinfo=UTC)}, {"recorded_on": date(2020, 1, 1)}, {"entries": ()},
        ]
    ),
)  # fmt: skip
def test_every_field_of_a_transaction_is_under_the_hash(n: int, change: dict[str, object]) -> None:
    day = FIRST + timedelta(days=n)
    first, *others = LEDGER[day]
    forged = LEDGER | {day: [replace(first, **change), *others]}  # type: ignore[arg-type]
    broken = chain.first_break(CHAIN, contents(forged), {})
    assert broken is not None
    assert broken.day == day


@pytest.mark.parametrize(
    "change", [{"n": 3}, {"account": "b"}, {"currency": "CNY"}, {"amount": Decimal("1.000000000001")}, {"line_no": 9}]
)
def test_every_field_of_an_entry_is_under_the_hash(change: dict[str, object]) -> None:
    first, *others = LEDGER[FIRST]
    one, two = first.entries
    forged = LEDGER | {FIRST: [replace(first, entries=(replace(one, **change), two)), *others]}  # type: ignore[arg-type]
    broken = chain.first_break(CHAIN, contents(forged), {})
    assert broken is not None
    assert broken.day == FIRST


@given(st.integers(0, DAYS - 1))
def test_a_transaction_that_is_gone_or_new_is_counted(n: int) -> None:
    day = FIRST + timedelta(days=n)
    for forged in (LEDGER[day][:-1], [*LEDGER[day], transaction(day, 99)]):
        broken = chain.first_break(CHAIN, contents(LEDGER | {day: forged}), {})
        assert broken is not None
        assert (broken.day, "are there" in broken.why) == (day, True)


def test_a_day_slipped_in_between_closed_ones_is_found() -> None:
    before = FIRST - timedelta(days=1)
    broken = chain.first_break(CHAIN, contents(LEDGER | {before: [transaction(before, 1)]}), {})
    assert broken == chain.Break(before, "it was never closed")


def test_a_link_taken_out_is_missed_by_the_one_after_it() -> None:
    day = FIRST + timedelta(days=1)
    without = {kept: of_day for kept, of_day in LEDGER.items() if kept != day}
    broken = chain.first_break([one for one in CHAIN if one.day != day], contents(without), {})
    assert broken == chain.Break(FIRST + timedelta(days=2), "its link does not follow from the day before")


@given(st.integers(0, DAYS - 1))
def test_a_chain_that_was_computed_anew_is_found_by_the_copy_outside(n: int) -> None:
    day = FIRST + timedelta(days=n)
    forged = LEDGER | {day: [replace(LEDGER[day][0], booked_by="nobody"), *LEDGER[day][1:]]}
    assert chain.first_break(links(forged), contents(forged), {}) is None
    broken = chain.first_break(links(forged), contents(forged), KEPT)
    assert broken == chain.Break(day, "its link is not the one that was copied when it was closed")


def test_a_tail_that_was_cut_off_is_found_by_the_copy_outside() -> None:
    *rest, last = CHAIN
    cut = {day: of_day for day, of_day in LEDGER.items() if day != last.day}
    assert chain.first_break(rest, contents(cut), {}) is None
    assert chain.first_break(rest, contents(cut), KEPT) == chain.Break(last.day, "it was closed and its link is gone")


def test_a_stranger_can_compute_a_link_with_nothing_but_the_written_rule() -> None:
    line = (
        '["00000000-0000-0000-0000-000000000001","2026-11-26-1","invoice","de","00000000-0000-0000-0000-000000000007",'
        '"inv","2026-11-26","finance","text","2026-11-26T00:00:00.000000+00:00","2026-11-26",'
        '[[1,"de/bank/EUR//","EUR","1.000000000000",null],[2,"a","EUR","-1.000000000000",1]]]\n'
    )
    content = hashlib.sha256(line.encode()).hexdigest()
    assert CHAIN[0].sha256 == hashlib.sha256(f"{'0' * 64}\n2026-11-26\n{content}\n".encode()).hexdigest()

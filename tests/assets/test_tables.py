"""Tables for people: exact money as text, many rows cut."""

from __future__ import annotations

from decimal import Decimal

from assets.tables import ROWS_SHOWN, table


def test_money_is_text_and_counts_are_numbers() -> None:
    shown = table([{"tokens": 3, "amount": Decimal("0.003125000000"), "agrees": True}])
    assert [(column.name, column.type) for column in shown.schema.columns] == [
        ("tokens", "int"), ("amount", "string"), ("agrees", "bool"),
    ]  # fmt: skip
    assert shown.records[0].data == {"tokens": 3, "amount": "0.003125000000", "agrees": True}


def test_long_tables_are_cut_and_empty_ones_allowed() -> None:
    assert len(table([{"n": n} for n in range(ROWS_SHOWN + 1)]).records) == ROWS_SHOWN
    assert table([]).records == []

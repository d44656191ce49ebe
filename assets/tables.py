"""How rows look in Dagster: tables of text and numbers. Exact money is text, since a table cell has no Decimal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import dagster as dg

ROWS_SHOWN = 200  # an event with more slows every page that lists it

Cell = str | int | float | bool | None


def table(rows: Sequence[Any]) -> dg.TableMetadataValue:
    """Dataclasses or mappings of one shape as a table; what exceeds ROWS_SHOWN is left out."""
    records = [_record(row) for row in rows[:ROWS_SHOWN]]
    columns = [dg.TableColumn(name, _column_type(value)) for name, value in records[0].items()] if records else []
    return dg.MetadataValue.table([dg.TableRecord(record) for record in records], dg.TableSchema(columns))


def _record(row: Any) -> dict[str, Cell]:
    values: Mapping[str, Any] = asdict(row) if is_dataclass(row) and not isinstance(row, type) else row
    return {name: value if isinstance(value, Cell) else str(value) for name, value in values.items()}


def _column_type(value: Cell) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case _:
            return "string"

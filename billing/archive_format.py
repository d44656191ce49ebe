"""The archive's file format: which columns of a usage event it keeps, in which exact types, and the sums that prove it.

Parquet with zstd, written and read by duckdb: integers are integers, instants are microseconds in UTC, nothing is a
float. The sums are written twice, for PostgreSQL and for duckdb, so that table and archive are added up by two
programs. A column that is added gets a new SCHEMA_VERSION; old files are read by the one in their manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCHEMA_VERSION = 1

# Two columns of the seal, then `usage_events` itself. There is no content of requests in it.
COLUMNS = {
    "window_day": "DATE", "seal_no": "INTEGER",
    "usage_day_utc": "DATE", "id": "UUID", "source_id": "UUID", "source_seq": "BIGINT", "tenant_id": "UUID",
    "api_key_id": "UUID", "request_id": "VARCHAR", "tag": "VARCHAR", "endpoint": "VARCHAR", "model_id": "VARCHAR",
    "variant_id": "VARCHAR", "tier_requested": "VARCHAR", "tier_served": "VARCHAR", "replica_id": "UUID",
    "started_at": "TIMESTAMPTZ", "first_token_at": "TIMESTAMPTZ", "ended_at": "TIMESTAMPTZ",
    "prompt_tokens": "BIGINT", "cached_tokens": "BIGINT", "completion_tokens": "BIGINT", "reasoning_tokens": "BIGINT",
    "http_status": "INTEGER", "end_reason": "VARCHAR", "usage_origin": "VARCHAR", "adapter_id": "UUID",
    "batch_id": "UUID", "batch_line": "INTEGER", "engine_prompt_tokens": "BIGINT", "reused_prompt_tokens": "BIGINT",
    "reused_completion_tokens": "BIGINT", "admitted_at": "TIMESTAMPTZ", "ingested_at": "TIMESTAMPTZ",
}  # fmt: skip
SUMMED = (
    "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "reused_prompt_tokens",
    "reused_completion_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Totals:
    """What a set of events adds up to. `fingerprint`: the sum of the events' hashes, the same in whatever order."""

    events: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    reused_prompt_tokens: int
    reused_completion_tokens: int
    fingerprint: int

    @property
    def tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


NOTHING = Totals(0, 0, 0, 0, 0, 0, 0, 0)


def connect(memory_mb: int = 200) -> DuckDBPyConnection:
    """A duckdb in memory that spills to disk above `memory_mb`. One thread: the same rows give the same bytes."""
    import duckdb  # only jobs need it

    connection = duckdb.connect()
    connection.execute(f"set memory_limit = '{memory_mb}MB'; set threads = 1; set TimeZone = 'UTC'")
    return connection


def write(connection: DuckDBPyConnection, csv: Path, parquet: Path) -> None:
    """From PostgreSQL's CSV of COLUMNS, in their order, to Parquet. An empty text stays apart from none."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    connection.execute(f"""
        copy (select * from read_csv('{csv}', columns = {{{columns}}}, header = false, delim = ',', quote = '"',
                                     escape = '"', allow_quoted_nulls = false, parallel = false))
        to '{parquet}' (format parquet, compression zstd)""")  # noqa: S608 (names of our own)


def totals_of_file(connection: DuckDBPyConnection, parquet: Path) -> Totals:
    """What a file really holds."""
    row = connection.execute(f"select {DUCKDB_SUMS} from read_parquet('{parquet}')").fetchone()  # noqa: S608
    assert row is not None
    return Totals(*(int(value) for value in row))


def _postgres_text(name: str, kind: str) -> str:
    plain = f"({name} at time zone 'UTC')" if kind == "TIMESTAMPTZ" else name
    return f"cast(extract(epoch from {plain}) * 1000000 as bigint)::text" if kind == "TIMESTAMPTZ" else f"{plain}::text"


def _duckdb_text(name: str, kind: str) -> str:
    return f"epoch_us({name})::varchar" if kind == "TIMESTAMPTZ" else f"{name}::varchar"


def _sums(texts: list[str], hashed: str, wide: str) -> str:
    canonical = ", ".join(f"coalesce({text}, '')" for text in texts)
    sums = ", ".join(f"coalesce(sum({name}), 0){wide}" for name in SUMMED)
    return f"count(*), {sums}, coalesce(sum({hashed.format(f'concat_ws(chr(31), {canonical})')}), 0){wide}"


# A hash is the first 60 bits of SHA-256 over the columns' texts, so the sum of many stays exact in both programs.
POSTGRES_SUMS = _sums(
    [_postgres_text(name, kind) for name, kind in COLUMNS.items()],
    "('x' || substr(encode(sha256(convert_to({}, 'UTF8')), 'hex'), 1, 15))::bit(60)::bigint",
    "::numeric",
).replace("::", "\\:\\:")
DUCKDB_SUMS = _sums(
    [_duckdb_text(name, kind) for name, kind in COLUMNS.items()],
    "cast('0x' || substr(sha256({}), 1, 15) as bigint)",
    "",
)

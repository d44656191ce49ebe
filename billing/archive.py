"""The archive: the events of each seal as a file in the object store, written once, under the name of its own content.

Beside each file lies its manifest, so that the archive explains itself without our database. A row of `usage_archives`
says where a seal lies; only with it may the events' partition be dropped (`drop_archived_usage`, docs/decisions/0021).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection, exists, select, tuple_
from sqlalchemy.orm import Session

from billing import archive_format, windows
from billing.archive_format import COLUMNS, NOTHING, POSTGRES_SUMS, SCHEMA_VERSION, Totals
from billing.windows import Seal, SealKey, over_day, over_seal
from studio import ids
from studio.db.usage import UsageArchive, UsageWindow
from studio.errors import Conflict
from studio.objects import Bucket, ObjectStore

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class NotWhatWasSealed(Conflict):
    """The events of a seal, read back, are not those of its manifest: somebody has changed one of them."""

    default_code = "not_what_was_sealed"


@dataclass(frozen=True, slots=True)
class Fetched:
    """Archived files in a folder of their own, and why those of some seals are not among them."""

    folder: Path
    damaged: Mapping[SealKey, str]

    @property
    def files(self) -> str | None:
        """A pattern for all of them, or None when there is none."""
        return f"{self.folder}/*.parquet" if any(self.folder.iterdir()) else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One seal in the archive beside the same seal in the table. `table` is NOTHING once its partition was dropped."""

    key: SealKey
    sealed_events: int
    archive: Totals
    table: Totals

    @property
    def only_in_archive(self) -> bool:
        """The partition was dropped; the seal's own count stands for the table."""
        return self.table == NOTHING

    @property
    def agrees(self) -> bool:
        """To the last event and token."""
        return self.archive.events == self.sealed_events and (self.only_in_archive or self.archive == self.table)


def archive_seal(session: Session, store: ObjectStore, duckdb: DuckDBPyConnection, key: SealKey, now: datetime) -> bool:
    """Put the events of a seal into the object store, unless they are there; whether they were put now.

    NotWhatWasSealed when what was read is something else: nothing is archived then.
    """
    seal = windows.lock(session, key)
    if session.get(UsageArchive, (key.window_day, key.tenant_id, key.seal_no)) is not None:
        return False
    with TemporaryDirectory(prefix="studio-archive-") as folder:
        csv, parquet = Path(folder) / "events.csv", Path(folder) / "events.parquet"
        _copy(session.connection(), key, csv)
        archive_format.write(duckdb, csv, parquet)
        totals = archive_format.totals_of_file(duckdb, parquet)
        if (totals.events, totals.tokens) != (seal.events, seal.tokens):
            raise NotWhatWasSealed(
                f"The seal {key} holds {seal.events} events and {seal.tokens} tokens,"
                f" but {totals.events} and {totals.tokens} were read back."
            )
        body = parquet.read_bytes()
    sha256 = hashlib.sha256(body).hexdigest()
    name = object_key(key, sha256)
    manifest = json.dumps(_manifest(seal, totals, sha256, len(body)), indent=1).encode()
    for suffix, content in ((".json", manifest), (".parquet", body)):
        if store.size(Bucket.USAGE_ARCHIVE, name + suffix) is None:  # the name is the content: never written again
            store.put(Bucket.USAGE_ARCHIVE, name + suffix, content)
    session.add(
        UsageArchive(
            **asdict(key), object_key=f"{name}.parquet", sha256=sha256, bytes=len(body),
            schema_version=SCHEMA_VERSION, events=totals.events, fingerprint=totals.fingerprint, archived_at=now,
        )
    )  # fmt: skip
    session.flush()
    return True


def object_key(key: SealKey, sha256: str) -> str:
    """Where a seal lies, without the suffix of its file or manifest."""
    return f"{ids.to_wire(ids.TENANT, key.tenant_id)}/{key.window_day}/{key.seal_no}-{sha256}"


def waiting(session: Session, window_day: date) -> list[SealKey]:
    """The seals of a day that are not archived."""
    query = select(*_KEY).where(UsageWindow.window_day == window_day, ~_IS_ARCHIVED).order_by(*_KEY)
    return [SealKey(*row) for row in session.execute(query).tuples()]


def waiting_days(session: Session, limit: int) -> list[date]:
    """The oldest days with reconciled seals that are not archived: those from before there was an archive."""
    query = select(UsageWindow.window_day).where(UsageWindow.state == "reconciled", ~_IS_ARCHIVED).distinct()
    return list(session.scalars(query.order_by(UsageWindow.window_day).limit(limit)))


def archived(session: Session, window_day: date) -> list[UsageArchive]:
    """What is archived of a day."""
    query = select(UsageArchive).where(UsageArchive.window_day == window_day)
    return list(session.scalars(query.order_by(UsageArchive.tenant_id, UsageArchive.seal_no)))


@contextmanager
def fetched(store: ObjectStore, rows: list[UsageArchive]) -> Iterator[Fetched]:
    """The files of archived seals. One that is missing, or is not what was written, is left out and named."""
    damaged: dict[SealKey, str] = {}
    with TemporaryDirectory(prefix="studio-archive-") as name:
        folder = Path(name)
        for number, row in enumerate(rows):
            body = store.get(Bucket.USAGE_ARCHIVE, row.object_key)
            if body is None or hashlib.sha256(body).hexdigest() != row.sha256:
                what = "is missing" if body is None else "is not what was written"
                key = SealKey(row.window_day, row.tenant_id, row.seal_no)
                damaged[key] = f"{row.object_key} in the bucket usage-archive {what}."
                continue
            (folder / f"{number}.parquet").write_bytes(body)
        yield Fetched(folder, damaged)


def compare_day(session: Session, duckdb: DuckDBPyConnection, files: str | None, window_day: date) -> list[Comparison]:
    """Each archived seal of a day, added up from its file by duckdb and from the table by PostgreSQL."""
    in_archive = {} if files is None else _sums_of_files(duckdb, files, window_day)
    in_table = {
        SealKey(window_day, row[0], row[1]): Totals(*map(int, row[2:]))
        for row in session.execute(_TABLE_SUMS, {"window_day": window_day})
    }
    sealed = {seal.key: seal.events for seal in windows.seals(session, window_day=window_day)}
    keys = [SealKey(row.window_day, row.tenant_id, row.seal_no) for row in archived(session, window_day)]
    return [Comparison(key, sealed[key], in_archive.get(key, NOTHING), in_table.get(key, NOTHING)) for key in keys]


def _sums_of_files(duckdb: DuckDBPyConnection, files: str, window_day: date) -> dict[SealKey, Totals]:
    rows = duckdb.execute(
        f"select tenant_id::varchar, seal_no, {archive_format.DUCKDB_SUMS}"  # noqa: S608 (columns of our own)
        f" from read_parquet('{files}') group by all"
    ).fetchall()
    return {SealKey(window_day, UUID(row[0]), row[1]): Totals(*map(int, row[2:])) for row in rows}


def _copy(connection: Connection, key: SealKey, csv: Path) -> None:
    """PostgreSQL's own CSV of a seal, in the order of the sources' numbers: the same file every time."""
    statement = str(_EVENTS.compile(dialect=connection.dialect))
    driver = connection.connection.driver_connection
    assert driver is not None
    copying = f"copy ({statement}) to stdout (format csv)"
    with driver.cursor() as cursor, csv.open("wb") as file, cursor.copy(copying, asdict(key)) as copy:
        for block in copy:
            file.write(block)


def _manifest(seal: Seal, totals: Totals, sha256: str, size: int) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "window_day": seal.key.window_day.isoformat(),
        "tenant_id": ids.to_wire(ids.TENANT, seal.key.tenant_id),
        "seal_no": seal.key.seal_no,
        "sealed_at": seal.sealed_at.isoformat(),
        "sealed_sha256": seal.manifest["sha256"],
        "sources": seal.manifest["sources"],
        "totals": asdict(totals),
        "sha256": sha256,
        "bytes": size,
        "columns": COLUMNS,
    }


_KEY = (UsageWindow.window_day, UsageWindow.tenant_id, UsageWindow.seal_no)
_IS_ARCHIVED = exists().where(
    tuple_(UsageArchive.window_day, UsageArchive.tenant_id, UsageArchive.seal_no) == tuple_(*_KEY)
)
_EVENT_COLUMNS = ", ".join(list(COLUMNS)[2:])
_EVENTS = over_seal(f"""
    select cast(:window_day as date) as window_day, cast(:seal_no as integer) as seal_no, {_EVENT_COLUMNS}
    from sealed order by source_id, source_seq
""")  # noqa: S608 (columns of our own)
_TABLE_SUMS = over_day(
    f"select tenant_id, seal_no, {POSTGRES_SUMS} from sealed group by tenant_id, seal_no"  # noqa: S608 (likewise)
)

"""Brings usage from journals to the database, each event exactly once. A thread of its own, with its own role.

A shipment is copied to `usage_staging` and accepted in the same transaction that advances `usage_sources.last_seq`, so
the database itself says where to go on. What an earlier run left behind is adopted: the rest is shipped, the source
closed, the directory removed. While the database is away everything waits in the journal.

When a source was heard of and when it ended is told by the database's clock, since others compare it with theirs; the
clock of a gateway may be set back.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from shutil import rmtree
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import sql

from serving.journal import FILE_NAME, Journal, JournalLocked, Record, lock, read_records
from serving.usage_event import UsageEvent
from studio import clock, ids

HEARTBEAT = timedelta(seconds=2)
ADOPTION = timedelta(seconds=30)  # how often to look for journals of gateways that died since
GATHERING = timedelta(milliseconds=100)  # after a first event, so that a busy gateway ships hundreds at once
RETRY = timedelta(milliseconds=500)
STOPPING = timedelta(seconds=5)  # for a last shipment; what is left is adopted at the next start
SHIPMENT_RECORDS = 2000

_EVENT_COLUMNS = msgspec.structs.fields(UsageEvent)
_COLUMNS = ("shipment_id", "row", "source_id", "source_seq", *(field.name for field in _EVENT_COLUMNS))
_COPY = sql.SQL("copy usage_staging ({}) from stdin").format(sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)))

log = structlog.get_logger()


class SourceClosed(Exception):
    """Somebody adopted a copy of this journal while its gateway lived, and has settled what it drew from budgets."""


class Shipper:
    """Ships `journal` as it grows, and closes its source at `stop`."""

    def __init__(self, journal: Journal, database_url: str) -> None:
        self._journal = journal
        self._database_url = database_url.replace("postgresql+psycopg://", "postgresql://")
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper")
        self._position = 0  # in the journal, of the first record not shipped
        self._is_registered = False
        self._next_heartbeat = self._next_adoption = 0.0
        self.shipped_seq = 0
        self.level_at: datetime | None = None  # when the database last had everything
        journal.on_durable = self._news.set

    @property
    def pending(self) -> int:
        """Events in the journal and not yet in the database."""
        return self._journal.durable_seq - self.shipped_seq

    @property
    def is_alive(self) -> bool:
        """False once it has stopped, for whatever reason."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; a database that is not there yet is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """Ship all, close the source, remove the journal; after `STOPPING` without success leave it for adoption.

        The journal must have been closed before.
        """
        self._stopping.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        give_up_at: float | None = None
        is_away = False
        while True:
            if self._stopping.is_set():
                give_up_at = give_up_at or time.monotonic() + STOPPING.total_seconds()
            try:
                with psycopg.connect(
                    self._database_url, autocommit=True, connect_timeout=5, options="-c timezone=UTC"
                ) as connection:
                    is_away = False
                    self._ship_until_stopped(connection)
                    return
            except psycopg.Error as error:
                if not is_away:
                    log.warning("usage_waits", pending=self.pending, error=str(error).strip())
                is_away = True
            except SourceClosed:
                log.error("source_closed_by_another", source=str(self._journal.source_id), pending=self.pending)
                return  # what it may no longer ship is adopted after its end
            if give_up_at is not None and time.monotonic() > give_up_at:
                log.warning("usage_left_for_adoption", source=str(self._journal.source_id), pending=self.pending)
                return
            time.sleep(RETRY.total_seconds())

    def _ship_until_stopped(self, connection: psycopg.Connection) -> None:
        if not self._is_registered:
            _register(connection, self._journal.source_id)
            self._is_registered = True
        while True:
            is_last_round = self._stopping.is_set()
            self._news.clear()
            self._ship_news(connection)
            if is_last_round:
                _close(connection, self._journal.source_id)
                rmtree(self._journal.directory)
                return
            now = time.monotonic()
            if now >= self._next_heartbeat:
                self._next_heartbeat = now + HEARTBEAT.total_seconds()
                _beat(connection, self._journal.source_id, self.pending)
            if now >= self._next_adoption:
                self._next_adoption = now + ADOPTION.total_seconds()
                adopt_the_dead(connection, self._journal.directory.parent, self._journal.directory)
            if self._news.wait(HEARTBEAT.total_seconds()) and not self._stopping.is_set():
                time.sleep(GATHERING.total_seconds())

    def _ship_news(self, connection: psycopg.Connection) -> None:
        records = read_records(self._journal.path, self._position, self._journal.durable_bytes)
        while batch := list(islice(records, SHIPMENT_RECORDS)):
            _ship(connection, self._journal.source_id, (record for record, _ in batch))
            last, self._position = batch[-1]
            self.shipped_seq = last.source_seq
        self.level_at = clock.now()


def adopt_the_dead(connection: psycopg.Connection, journal_dir: Path, own: Path | None = None) -> None:
    """Ship and remove every journal below `journal_dir` whose gateway is gone; `own` is of the caller, who lives."""
    for directory in journal_dir.iterdir():
        # A name with a dot is a journal that is just being born.
        if directory.name.startswith(".") or directory == own:
            continue
        try:
            source_id = UUID(directory.name)
            file = lock(directory / FILE_NAME)
        except (JournalLocked, FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
            continue  # its gateway lives, another one has just adopted it, or it is no journal
        try:
            _adopt(connection, directory, source_id)
        finally:
            os.close(file)


def _adopt(connection: psycopg.Connection, directory: Path, source_id: UUID) -> None:
    """Ship the rest of a dead gateway's journal and close its source. The caller holds the journal's lock."""
    _register(connection, source_id)
    shipped = connection.execute("select last_seq from usage_sources where id = %s", (source_id,)).fetchone()
    assert shipped is not None  # registered above
    rest = (record for record, _ in read_records(directory / FILE_NAME) if record.source_seq > shipped[0])
    adopted = 0
    while batch := list(islice(rest, SHIPMENT_RECORDS)):
        _ship(connection, source_id, batch)
        adopted += len(batch)
    connection.execute(
        # What it had in flight was counted by engines and recorded by nobody: reconciliation must know of its death.
        "update usage_sources set crashed_at = now() where id = %s and closed_at is null",
        (source_id,),
    )
    _close(connection, source_id)
    rmtree(directory)
    log.info("journal_adopted", source=str(source_id), events=adopted)


def _ship(connection: psycopg.Connection, source_id: UUID, records: Iterable[Record]) -> None:
    shipment_id = ids.uuid7()
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            for row, record in enumerate(records):
                event = msgspec.structs.astuple(record.event)
                copy.write_row((shipment_id, row, source_id, record.source_seq, *event))
        accepted = cursor.execute("select quarantined from accept_usage(%s)", (shipment_id,)).fetchone()
    if accepted is not None and accepted[0]:
        log.warning("usage_quarantined", source=str(source_id), events=accepted[0])


def _register(connection: psycopg.Connection, source_id: UUID) -> None:
    connection.execute(
        "insert into usage_sources (id, name, opened_at, last_seq, pending, heartbeat_at)"
        " values (%s, %s, least(%s, now()), 0, 0, now()) on conflict (id) do nothing",
        (source_id, f"gateway on {socket.gethostname()}", ids.instant_of(source_id)),
    )


def _beat(connection: psycopg.Connection, source_id: UUID, pending: int) -> None:
    statement = "update usage_sources set heartbeat_at = now(), pending = %s where id = %s and closed_at is null"
    if not connection.execute(statement, (pending, source_id)).rowcount:
        raise SourceClosed


def _close(connection: psycopg.Connection, source_id: UUID) -> None:
    with connection.transaction():
        connection.execute(
            "update usage_sources set closed_at = coalesce(closed_at, now()), pending = 0, heartbeat_at = now()"
            " where id = %s",
            (source_id,),
        )
        # All its events are there: what it spent of budgets is known. In one transaction, so that it draws no more.
        connection.execute("select settle_draws(%s)", (source_id,))

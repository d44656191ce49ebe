"""Brings usage from journals to the database, each event exactly once. A thread of its own, with its own role.

A shipment is copied to `usage_staging` and accepted in the same transaction that advances `usage_sources.last_seq`, so
the database itself says where to go on. What an earlier run left behind is adopted: the rest is shipped, the source
closed, the directory removed. While the database is away everything waits in the journal.

A segment is removed once the database says that it has all of it, but the newest of these: a database that lost its
last commits, as one may that takes over from another, is given them again.

When a source was heard of and when it ended is told by the database's clock, since others compare it with theirs; the
clock of a gateway may be set back.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from shutil import rmtree
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import sql

from serving.journal import Journal, JournalLocked, lock_of
from serving.journal_segments import Reading, Record, read_records, segment, segments, whole_in
from serving.usage_event import UsageEvent
from studio import clock, ids

HEARTBEAT = timedelta(seconds=2)
ADOPTION = timedelta(seconds=30)  # how often to look for journals of gateways that died since
GATHERING = timedelta(milliseconds=100)  # after a first event, so that a busy gateway ships hundreds at once
RETRY = timedelta(milliseconds=500)
STOPPING = timedelta(seconds=5)  # for a last shipment; what is left is adopted at the next start
SHIPMENT_RECORDS = 2000
# What is committed is on the database's disk, however the server is set: then it may go from ours.
SESSION = "-c timezone=UTC -c synchronous_commit=on"
DAMAGED = ".damaged"  # after a journal's name: nobody adopts it

_EVENT_COLUMNS = msgspec.structs.fields(UsageEvent)
_COLUMNS = ("shipment_id", "row", "source_id", "source_seq", *(field.name for field in _EVENT_COLUMNS))
_COPY = sql.SQL("copy usage_staging ({}) from stdin").format(sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)))

log = structlog.get_logger()


class SourceClosed(Exception):
    """Somebody adopted a copy of this journal while its gateway lived, and has settled what it drew from budgets."""


class JournalDamaged(Exception):
    """What was durable can be read no more."""


class Shipper:
    """Ships `journal` as it grows, and closes its source at `stop`."""

    def __init__(self, journal: Journal, database_url: str) -> None:
        self._journal = journal
        self._database_url = database_url.replace("postgresql+psycopg://", "postgresql://")
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper")
        self._at = 1, 0  # of the first record not shipped: its segment, and the position there
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
    def oldest_pending_at(self) -> datetime | None:
        """When the oldest request ended whose event is not in the database. None when all are."""
        first_seq, position = self._at
        if not self.pending:
            return None
        try:
            first = next(read_records(segment(self._journal.directory, first_seq).path, position), None)
        except FileNotFoundError:  # it went on and removed it
            return None
        return None if first is None else first[0].event.ended_at

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
                    self._database_url, autocommit=True, connect_timeout=5, options=SESSION
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
            except JournalDamaged as damage:
                log.error("journal_damaged", source=str(self._journal.source_id), damage=str(damage))
                return  # whoever adopts it ships what lies beyond
            if give_up_at is not None and time.monotonic() > give_up_at:
                log.warning("usage_left_for_adoption", source=str(self._journal.source_id), pending=self.pending)
                return
            time.sleep(RETRY.total_seconds())

    def _ship_until_stopped(self, connection: psycopg.Connection) -> None:
        if not self._is_registered:
            _register(connection, self._journal.source_id)
            self._is_registered = True
        self._heed(_last_seq(connection, self._journal.source_id))
        while True:
            is_last_round = self._stopping.is_set()
            self._news.clear()
            self._ship_news(connection)
            if is_last_round:
                _close(connection, self._journal.source_id)
                _remove(self._journal.directory)
                return
            now = time.monotonic()
            if now >= self._next_heartbeat:
                self._next_heartbeat = now + HEARTBEAT.total_seconds()
                self._heed(_beat(connection, self._journal.source_id, self.pending))
            if now >= self._next_adoption:
                self._next_adoption = now + ADOPTION.total_seconds()
                adopt_the_dead(connection, self._journal.directory.parent, self._journal.directory)
            if self._news.wait(HEARTBEAT.total_seconds()) and not self._stopping.is_set():
                time.sleep(GATHERING.total_seconds())

    def _ship_news(self, connection: psycopg.Connection) -> None:
        end = self._journal.end  # once: it goes on while this reads
        while True:
            first_seq, position = self._at
            path, until = segment(self._journal.directory, first_seq).path, None
            if first_seq == end.first_seq:
                until = end.bytes
            records = read_records(path, position, until)
            while batch := list(islice(records, SHIPMENT_RECORDS)):
                _ship(connection, self._journal.source_id, (record for record, _ in batch))
                last, position = batch[-1]
                self._at, self.shipped_seq = (first_seq, position), last.source_seq
            if until is not None:
                if position < until:
                    raise JournalDamaged(f"{path.name} cannot be read beyond byte {position} of {until}")
                break
            if not segment(self._journal.directory, self.shipped_seq + 1).path.exists():
                raise JournalDamaged(f"{path.name} cannot be read beyond byte {position}")
            self._at = self.shipped_seq + 1, 0
        self.level_at = clock.now()

    def _heed(self, last_seq: int) -> None:
        """What the database says that it has may be removed; what it has no more is shipped again."""
        found = segments(self._journal.directory)
        if last_seq < self.shipped_seq:
            log.warning("database_went_back", source=str(self._journal.source_id), sent=self.shipped_seq, has=last_seq)
            again = whole_in(found, last_seq)
            first_seq = found[len(again)].first_seq
            if first_seq > last_seq + 1:
                log.error("usage_lost_by_database", first=last_seq + 1, last=first_seq - 1)
            # From the segment's beginning: the database knows what it has.
            self._at, self.shipped_seq = (first_seq, 0), first_seq - 1
            return
        for one in whole_in(found, min(last_seq, self.shipped_seq))[:-1]:
            one.path.unlink(missing_ok=True)


def adopt_the_dead(connection: psycopg.Connection, journal_dir: Path, own: Path | None = None) -> None:
    """Ship and remove every journal below `journal_dir` whose gateway is gone; `own` is of the caller, who lives."""
    for directory in journal_dir.iterdir():
        # A name with a dot is a journal that is just being born.
        if directory.name.startswith(".") or directory == own:
            continue
        try:
            source_id = UUID(directory.name)
        except ValueError:
            continue  # it is no journal
        try:
            file = lock_of(directory)
        except FileNotFoundError:
            with suppress(OSError):
                directory.rmdir()  # whoever adopted it was killed at the very end
            continue
        except (JournalLocked, NotADirectoryError, PermissionError):
            continue  # its gateway lives, or another one is adopting it
        try:
            _adopt(connection, directory, source_id)
        finally:
            os.close(file)


def _adopt(connection: psycopg.Connection, directory: Path, source_id: UUID) -> None:
    """Ship the rest of a dead gateway's journal and close its source. The caller holds the journal's lock.

    Of a damaged one what can be read is shipped; then it is put aside for a person, and its source stays open, so that
    no day of it is taken for complete.
    """
    _register(connection, source_id)
    reading = Reading(directory, after=_last_seq(connection, source_id))
    rest, adopted = iter(reading), 0
    while batch := list(islice(rest, SHIPMENT_RECORDS)):
        _ship(connection, source_id, batch)
        adopted += len(batch)
    if reading.damage is not None:
        directory.rename(directory.with_name(f"{directory.name}{DAMAGED}"))
        log.error("journal_damaged", source=str(source_id), events=adopted, damage=reading.damage)
        return
    connection.execute(
        # What it had in flight was counted by engines and recorded by nobody: reconciliation must know of its death.
        "update usage_sources set crashed_at = now() where id = %s and closed_at is null",
        (source_id,),
    )
    _close(connection, source_id)
    _remove(directory)
    log.info("journal_adopted", source=str(source_id), events=adopted)


def _remove(directory: Path) -> None:
    """The lock last, since without it nobody would come back for the rest."""
    for one in segments(directory):
        one.path.unlink(missing_ok=True)
    rmtree(directory, ignore_errors=True)


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


def _last_seq(connection: psycopg.Connection, source_id: UUID) -> int:
    """The number up to which the database has events of a source that is registered."""
    row = connection.execute("select last_seq from usage_sources where id = %s", (source_id,)).fetchone()
    if row is None:
        raise SourceClosed
    return int(row[0])


def _beat(connection: psycopg.Connection, source_id: UUID, pending: int) -> int:
    """Says that the source lives; returns the number up to which the database has its events."""
    statement = (
        "update usage_sources set heartbeat_at = now(), pending = %s where id = %s and closed_at is null"
        " returning last_seq"
    )
    row = connection.execute(statement, (pending, source_id)).fetchone()
    if row is None:
        raise SourceClosed
    return int(row[0])


def _close(connection: psycopg.Connection, source_id: UUID) -> None:
    with connection.transaction():
        connection.execute(
            "update usage_sources set closed_at = coalesce(closed_at, now()), pending = 0, heartbeat_at = now()"
            " where id = %s",
            (source_id,),
        )
        # All its events are there: what it spent of budgets is known. In one transaction, so that it draws no more.
        connection.execute("select settle_draws(%s)", (source_id,))

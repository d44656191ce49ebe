"""Dumps of the database in the object store, each with a manifest that says what is in it.

Dump and manifest are of one snapshot, so a copy restored from it must show the manifest's figures exactly. The dump is
as encrypted at rest as the S3 server makes it; what tenants asked us to keep is sealed inside it already.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from sqlalchemy import Engine, make_url, text

from billing import chain
from local.backup.facts import Facts, read_facts
from local.postgres import binary
from studio.db.sessions import engine_for, unit_of_work
from studio.errors import StudioError
from studio.objects import Bucket, ObjectStore

_MANIFEST = "manifest.json"
_DUMP = "studio.dump"


class BackupFailed(StudioError):
    """There is no backup, and why."""


class Manifest(msgspec.Struct, frozen=True):
    """About one backup."""

    name: str  # the instant, `2026-11-28T02:30:00Z`
    taken_at: datetime
    sha256: str
    size_bytes: int
    facts: Facts

    @property
    def dump_key(self) -> str:
        """Where the dump lies."""
        return f"{self.name}/{_DUMP}"


def take(owner_url: str, store: ObjectStore, now: datetime) -> Manifest:
    """Dump the database as its owner. The manifest is written last: without one there is no backup. BackupFailed."""
    engine = engine_for(owner_url, pool_size=1)
    name = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    with tempfile.TemporaryDirectory(prefix="studio-backup-") as folder, _disposed(engine):
        dump = Path(folder) / _DUMP
        with unit_of_work(engine) as session:
            session.execute(text("set transaction isolation level repeatable read, read only"))
            if hidden := session.scalars(_HIDDEN).all():
                raise BackupFailed(f"The owner would not see all rows of {', '.join(hidden)}: give it a policy first.")
            snapshot: str = session.execute(text("select pg_export_snapshot()")).scalar_one()
            facts, broken = read_facts(session, chain.from_json(store.get(Bucket.INVOICES, chain.COPY)))
            if broken is not None:
                raise BackupFailed(f"The ledger's chain is broken ({broken}); older backups are kept, none is made.")
            _run(
                owner_url,
                "pg_dump",
                "--format=custom",
                "--enable-row-security",
                "--compress=gzip:3",
                f"--snapshot={snapshot}",
                f"--file={dump}",
            )
        with dump.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = Manifest(name, now, digest, dump.stat().st_size, facts)
        store.client.upload_file(str(dump), store.name(Bucket.BACKUPS), manifest.dump_key)
    store.put(Bucket.BACKUPS, f"{name}/{_MANIFEST}", msgspec.json.encode(manifest), content_type="application/json")
    return manifest


def backups(store: ObjectStore) -> list[Manifest]:
    """All that are whole, the oldest first."""
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.name(Bucket.BACKUPS))
    keys = sorted(found["Key"] for page in pages for found in page.get("Contents", ()))
    bodies = (store.get(Bucket.BACKUPS, key) for key in keys if key.endswith(f"/{_MANIFEST}"))
    return [msgspec.json.decode(body, type=Manifest) for body in bodies if body is not None]


def prune(store: ObjectStore, keep: int) -> list[str]:
    """Remove all but the newest; their names. The manifest goes first, so that no half backup counts as one."""
    old = backups(store)[: -max(keep, 1)]
    for manifest in old:
        store.delete(Bucket.BACKUPS, f"{manifest.name}/{_MANIFEST}")
        store.delete(Bucket.BACKUPS, manifest.dump_key)
    return [manifest.name for manifest in old]


def fetch(store: ObjectStore, manifest: Manifest, target: Path) -> None:
    """Bring a dump here and check it. BackupFailed when its bytes are not those that were written."""
    with target.open("wb") as file:
        store.download(Bucket.BACKUPS, manifest.dump_key, file)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != manifest.sha256:
        raise BackupFailed(f"The dump of {manifest.name} was changed or cut: its SHA-256 is {digest}.")


# Row-level security is forced on the owner, too. A table without a policy for it would be dumped empty, and its
# count in the manifest would be the same nothing.
_HIDDEN = text("""
    select c.relname from pg_class c
    where c.relforcerowsecurity and not c.relispartition and not exists (
        select 1 from pg_policies p
        where p.tablename = c.relname and p.qual = 'true' and p.cmd in ('ALL', 'SELECT')
          and ('studio_owner' = any(p.roles) or 'public' = any(p.roles)))
    order by 1
""")


@contextmanager
def _disposed(engine: Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


def _run(url: str, tool: str, *arguments: str) -> None:
    parsed = make_url(url)
    connection = {
        "PGHOST": parsed.host or "",
        "PGPORT": str(parsed.port or 5432),
        "PGUSER": parsed.username or "",
        "PGPASSWORD": str(parsed.password or ""),  # not on the command line, where everybody could read it
        "PGDATABASE": parsed.database or "",
    }
    done = subprocess.run(
        [str(binary(tool)), *arguments], env=os.environ | connection, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BackupFailed(f"{tool} failed: {done.stderr.strip()}")

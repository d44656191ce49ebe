"""Copies of our buckets on a second S3 server, in the EU: what is new is copied, what was copied is read and compared.

Each copy carries the SHA-256 and the ETag of its original. A copy whose bytes differ from its SHA-256 is spoilt and is
made anew. An original that has changed under a name that never changes is *not* copied: then the copy is the good one,
and a person must look. Deletions are followed only where a tenant's deletion must mean one.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from studio.objects import Bucket, ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Not the weights: they come from their publishers, are verified by manifest, and are larger than all the rest.
REPLICATED = (
    *(Bucket.INVOICES, Bucket.USAGE_ARCHIVE, Bucket.BACKUPS, Bucket.BANK_STATEMENTS),
    *(Bucket.FILES, Bucket.ADAPTERS),
)
_NEVER_CHANGE = (Bucket.INVOICES, Bucket.USAGE_ARCHIVE, Bucket.BANK_STATEMENTS)
_DELETIONS_FOLLOWED = (Bucket.FILES, Bucket.ADAPTERS, Bucket.BACKUPS)
_MOST_DELETED = 0.5  # of a bucket, at once: more looks like a bucket that was emptied by mistake
_FEW = 20  # of which that many may go nevertheless
_STATE = ".replication.json"
_CHUNK_BYTES = 4 * 1024 * 1024

What = Literal["missing", "spoilt", "original changed", "deletions held"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One object (or bucket, with an empty key) that was not as it should have been."""

    bucket: str
    key: str
    what: What
    detail: str


@dataclass(slots=True)
class BucketReport:
    """One bucket after a pass."""

    bucket: str
    objects: int = 0
    size_bytes: int = 0
    copied: int = 0
    removed: int = 0
    verified: int = 0
    lag_seconds: float = 0.0  # how long the oldest object that this pass copied had waited
    trouble: list[Trouble] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Listed:
    etag: str
    size_bytes: int
    modified_at: datetime


def replicate(source: ObjectStore, target: ObjectStore, now: datetime, *, verify_days: int = 7) -> list[BucketReport]:
    """One pass over all buckets. Every copy is read and compared once in `verify_days` days. S3's errors pass."""
    present = {found["Name"] for found in target.client.list_buckets()["Buckets"]}
    reports = []
    for bucket in REPLICATED:
        if target.name(bucket) not in present:
            target.client.create_bucket(Bucket=target.name(bucket))
        reports.append(_Pass(source, target, bucket, now, verify_days).run())
    return reports


class _Pass:
    """One bucket, once."""

    def __init__(
        self, source: ObjectStore, target: ObjectStore, bucket: Bucket, now: datetime, verify_days: int
    ) -> None:
        self._source, self._target, self._bucket, self._now = source, target, bucket, now
        self._verify_days = verify_days
        self._report = BucketReport(str(bucket))

    def run(self) -> BucketReport:
        """Copy, verify, follow deletions; the moment it began is written last."""
        last_began = self._last_began()
        originals = dict(_listed(self._source.client, self._source.name(self._bucket)))
        copies = dict(_listed(self._target.client, self._target.name(self._bucket)))
        self._report.objects = len(originals)
        self._report.size_bytes = sum(one.size_bytes for one in originals.values())
        for key, original in originals.items():
            self._one(key, original, copies.get(key), last_began)
        self._follow_deletions(originals, copies)
        state = json.dumps({"began_at": self._now.isoformat()}).encode()
        self._target.put(self._bucket, _STATE, state, "application/json")
        return self._report

    def _one(self, key: str, original: _Listed, copy: _Listed | None, last_began: datetime | None) -> None:
        if copy is None:
            if last_began is not None and original.modified_at < last_began:
                self._tell(key, "missing", f"written {original.modified_at:%Y-%m-%d %H:%M}, and the copy is gone")
            self._copy(key, original)
            return
        looks_new = original.size_bytes != copy.size_bytes or original.modified_at >= copy.modified_at
        if not looks_new and not self._is_due(key):
            return
        recorded = self._recorded(key)
        if recorded.get("source-etag") == original.etag:
            self._verify(key, original, recorded)
        elif self._bucket in _NEVER_CHANGE:
            detail = "the original was written anew under a name that never changes; the copy was kept"
            self._tell(key, "original changed", detail)
        else:
            self._copy(key, original)

    def _verify(self, key: str, original: _Listed, recorded: Mapping[str, str]) -> None:
        """Read the copy, and the original beside it: either can rot."""
        self._report.verified += 1
        expected = recorded["sha256"]
        if (found := _sha256(self._target.client, self._target.name(self._bucket), key)) != expected:
            self._tell(key, "spoilt", f"the copy has SHA-256 {found[:16]}..., and had {expected[:16]}...; made anew")
            self._copy(key, original, expected)
        elif (found := _sha256(self._source.client, self._source.name(self._bucket), key)) != expected:
            detail = f"the original has SHA-256 {found[:16]}..., and had {expected[:16]}...; the copy was kept"
            self._tell(key, "original changed", detail)

    def _copy(self, key: str, original: _Listed, expected: str | None = None) -> None:
        with tempfile.TemporaryFile() as file:
            self._source.client.download_fileobj(self._source.name(self._bucket), key, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if expected is not None and digest != expected:
                self._tell(key, "original changed", "the original differs, too: there is no good one left to copy")
                return
            file.seek(0)
            self._target.client.upload_fileobj(
                file,
                self._target.name(self._bucket),
                key,
                ExtraArgs={"Metadata": {"sha256": digest, "source-etag": original.etag}},
            )
        self._report.copied += 1
        self._report.lag_seconds = max(self._report.lag_seconds, (self._now - original.modified_at).total_seconds())

    def _follow_deletions(self, originals: Mapping[str, _Listed], copies: Mapping[str, _Listed]) -> None:
        gone = [key for key in copies if key not in originals]
        if self._bucket not in _DELETIONS_FOLLOWED or not gone:
            return
        if len(gone) > max(_FEW, _MOST_DELETED * len(copies)):
            detail = f"{len(gone)} of {len(copies)} originals are gone at once; their copies were kept"
            self._tell("", "deletions held", detail)
            return
        for key in gone:
            self._target.delete(self._bucket, key)
        self._report.removed = len(gone)

    def _is_due(self, key: str) -> bool:
        return zlib.crc32(key.encode()) % self._verify_days == self._now.toordinal() % self._verify_days

    def _recorded(self, key: str) -> Mapping[str, str]:
        return self._target.client.head_object(Bucket=self._target.name(self._bucket), Key=key)["Metadata"]

    def _last_began(self) -> datetime | None:
        text = self._target.get(self._bucket, _STATE)
        return None if text is None else datetime.fromisoformat(json.loads(text)["began_at"])

    def _tell(self, key: str, what: What, detail: str) -> None:
        self._report.trouble.append(Trouble(str(self._bucket), key, what, detail))


def _listed(client: S3Client, bucket: str) -> Iterator[tuple[str, _Listed]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", ()):
            if found["Key"] != _STATE and not found["Key"].endswith("/"):
                yield found["Key"], _Listed(found["ETag"].strip('"'), found["Size"], found["LastModified"])


def _sha256(client: S3Client, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()

"""The object store: any S3. For jobs and the command line; gateway paths that stream use an async client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

from studio.errors import Conflict
from studio.s3 import s3_client
from studio.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Bucket(StrEnum):
    """What is kept where. Keys of a tenant's objects begin with its id."""

    MODELZOO = "modelzoo"
    FILES = "files"
    ADAPTERS = "adapters"
    INVOICES = "invoices"
    USAGE_ARCHIVE = "usage-archive"
    BACKUPS = "backups"
    BANK_STATEMENTS = "bank-statements"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object by its key, when it was written, and its bytes."""

    key: str
    modified_at: datetime
    size_bytes: int


class ObjectDiffers(Conflict):
    """What was written once would have been overwritten."""

    default_code = "object_differs"


@dataclass(frozen=True)
class ObjectStore:
    """Whole objects by bucket and key. S3's own errors pass through: they name bucket and key."""

    client: S3Client
    bucket_prefix: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> ObjectStore:
        """A client for the S3 server of the settings. Nothing is contacted yet."""
        access, secret = settings.s3_access_key, settings.s3_secret_key
        client = s3_client(
            settings.s3_endpoint_url,
            access.get_secret_value() if access else None,
            secret.get_secret_value() if secret else None,
        )
        return cls(client, settings.s3_bucket_prefix)

    @classmethod
    def replica(cls, settings: Settings) -> ObjectStore | None:
        """The second server, which holds copies; None where there is none."""
        if settings.replica_s3_endpoint_url is None:
            return None
        access, secret = settings.replica_s3_access_key, settings.replica_s3_secret_key
        client = s3_client(
            settings.replica_s3_endpoint_url,
            access.get_secret_value() if access else None,
            secret.get_secret_value() if secret else None,
        )
        return cls(client, settings.replica_s3_bucket_prefix)

    def name(self, bucket: Bucket) -> str:
        """The bucket's name on the server."""
        return f"{self.bucket_prefix}{bucket}"

    def ensure_buckets(self) -> None:
        """Create the buckets that do not exist yet."""
        present = {found["Name"] for found in self.client.list_buckets()["Buckets"]}
        for bucket in Bucket:
            if self.name(bucket) not in present:
                self.client.create_bucket(Bucket=self.name(bucket))

    def put(self, bucket: Bucket, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write one object."""
        self.client.put_object(Bucket=self.name(bucket), Key=key, Body=body, ContentType=content_type)

    def put_once(self, bucket: Bucket, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object that never changes: writing the same bytes again does nothing, ObjectDiffers for others."""
        from botocore.exceptions import ClientError

        there = self.get(bucket, key)
        if there is None:
            try:
                self.client.put_object(
                    Bucket=self.name(bucket), Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
                )
                return
            except ClientError as error:  # another one wrote it meanwhile
                if error.response.get("Error", {}).get("Code") not in ("PreconditionFailed", "412"):
                    raise
            there = self.get(bucket, key)
        if there != body:
            raise ObjectDiffers(f"The object {key} in {self.name(bucket)} has other bytes already.")

    def get(self, bucket: Bucket, key: str) -> bytes | None:
        """The object's bytes, or None when there is no such key."""
        try:
            return self.client.get_object(Bucket=self.name(bucket), Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def under(self, bucket: Bucket, prefix: str) -> list[StoredObject]:
        """Every object whose key begins with `prefix`, by key; a key that ends in a slash is a folder, not ours."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name(bucket), Prefix=prefix)
        found = [
            StoredObject(one["Key"], one["LastModified"], one["Size"])
            for page in pages
            for one in page.get("Contents", [])
        ]
        return sorted((one for one in found if not one.key.endswith("/")), key=lambda one: one.key)

    def delete(self, bucket: Bucket, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        self.client.delete_object(Bucket=self.name(bucket), Key=key)

    def download(self, bucket: Bucket, key: str, target: BinaryIO) -> None:
        """Stream an object into an open file."""
        self.client.download_fileobj(self.name(bucket), key, target)

    def size(self, bucket: Bucket, key: str) -> int | None:
        """Bytes of an object, or None when there is no such key."""
        from botocore.exceptions import ClientError

        try:
            return self.client.head_object(Bucket=self.name(bucket), Key=key)["ContentLength"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                return None
            raise

    def presigned_put(self, bucket: Bucket, key: str, expires_seconds: int) -> str:
        """A URL to which the holder may PUT this one object until it expires."""
        return self.client.generate_presigned_url(
            "put_object", Params={"Bucket": self.name(bucket), "Key": key}, ExpiresIn=expires_seconds
        )

    def presigned_get(self, bucket: Bucket, key: str, expires_seconds: int) -> str:
        """A URL from which the holder may GET this one object until it expires."""
        return self.client.generate_presigned_url(
            "get_object", Params={"Bucket": self.name(bucket), "Key": key}, ExpiresIn=expires_seconds
        )

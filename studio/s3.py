"""How S3 is spoken to: one client configuration for every process, also for those without this application's settings
(the trainer, in the engine environment). What is kept where is `studio/objects.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def s3_client(endpoint_url: str | None, access_key: str | None, secret_key: str | None) -> S3Client:
    """A client. Nothing is contacted yet."""
    import boto3  # 0.2 s of import that processes without object access need not pay
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1" if endpoint_url else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"max_attempts": 3, "mode": "standard"},
            # Plain bodies: not every S3 server takes the checksum trailers that boto3 sends by itself.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )

"""How messages are signed: Standard Webhooks (https://www.standardwebhooks.com), symmetric, version `v1`. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> str:
    """A secret as receivers' libraries take it."""
    return PREFIX + base64.b64encode(os.urandom(_SECRET_BYTES)).decode()


def headers(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """What a message carries: its id, the instant of this attempt, and a signature with each valid secret."""
    timestamp = str(int(at.timestamp()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, message_id, timestamp, body) for secret in secrets),
    }


def _signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()

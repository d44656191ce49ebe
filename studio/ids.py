"""Identifiers: UUIDv7 inside, `prefix_` + 32 hex digits on the wire. API keys have a file of their own."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from datetime import UTC, date, datetime
from uuid import UUID

TENANT = "tnt_"
API_KEY = "key_"
USER = "usr_"
MEMBERSHIP = "mbr_"
WEB_SESSION = "ses_"
SIGNIN_LINK = "sgl_"
INVOICE = "inv_"
CREDIT = "crd_"
CORRECTION = "cor_"
PAYMENT = "pay_"
PAYMENT_MATCH = "pmt_"
WRITE_OFF = "wof_"
DUNNING_NOTICE = "dun_"
LEDGER_TRANSACTION = "txn_"
APPROVAL = "apr_"
REVIEW = "rvw_"
HOLD = "hld_"
CREDIT_REQUEST = "crq_"
ALERT = "alr_"
WEBHOOK = "whk_"
WEBHOOK_MESSAGE = "msg_"
REPLICA = "rep_"
OVERRIDE = "ovr_"
FILE = "file-"
UPLOAD = "upload_"
UPLOAD_PART = "part_"
BATCH = "batch_"
RESPONSE = "resp_"
FINE_TUNING_JOB = "ftjob-"
ISOLATION_CERTIFICATE = "iso_"
PRICE = "prc_"
COMMITMENT = "cmt_"
CARD_RESERVATION = "rsv_"
QUOTE = "qte_"
COMPARISON = "cmp_"

_lock = threading.Lock()
_last = 0
_MOST_AHEAD = 1 << 12  # a millisecond, in stamps


def uuid7() -> UUID:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, 12 bits of sub-millisecond time, 62 random bits.

    Ids of one process grow strictly as long as its clock is not set back. When it is, they follow it: the instant in
    an id is when a request began, which decides on which day it is billed.
    """
    global _last
    with _lock:
        nanoseconds = time.time_ns()
        stamp = (nanoseconds // 1_000_000) << 12 | (nanoseconds % 1_000_000) * 4096 // 1_000_000
        if stamp > _last - _MOST_AHEAD:
            stamp = max(stamp, _last + 1)
        _last = stamp
    random_bits = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << 62 | random_bits)


def uuid7_of(instant: datetime, seed: bytes) -> UUID:
    """A UUIDv7 of a given instant (to the millisecond) whose other bits come from `seed`: the same in, the same out."""
    milliseconds = round(instant.timestamp() * 1000)
    bits = int.from_bytes(hashlib.sha256(seed).digest()[:10])
    return UUID(int=milliseconds << 80 | 7 << 76 | (bits >> 62 & 0xFFF) << 64 | 2 << 62 | bits & (1 << 62) - 1)


def instant_of(id: UUID) -> datetime:
    """The instant (UTC, milliseconds) at which a UUIDv7 was minted."""
    milliseconds = id.int >> 80
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


def day_utc_of(id: UUID) -> date:
    """The UTC day inside a UUIDv7: the partition of the row that carries it."""
    return instant_of(id).date()


def to_wire(prefix: str, id: UUID) -> str:
    """`tnt_` + hex."""
    return prefix + id.hex


def from_wire(prefix: str, text: str) -> UUID:
    """The id behind `text`; ValueError when it has another form."""
    if not text.startswith(prefix):
        raise ValueError(f"an id of the form {prefix}... was expected, not {text!r}")
    try:
        return UUID(hex=text.removeprefix(prefix))
    except ValueError as error:
        raise ValueError(f"{text!r} is no well-formed id") from error

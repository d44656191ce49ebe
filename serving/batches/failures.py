"""What went wrong: whether it is a batch's own fault, and what a log may say of it. A tenant's content is never logged,
so neither is an exception's own text, which may quote it."""

from __future__ import annotations

import traceback
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import OperationalError

_OF_THE_OBJECT = ("NoSuchKey", "InvalidRange")


def is_missing(error: Exception) -> bool:
    """The object store is well, but an object is not there as its row says."""
    return isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in _OF_THE_OBJECT


def is_outage(error: Exception) -> bool:
    """The object store or the database is away: it passes, and no batch is to blame."""
    return isinstance(error, BotoCoreError | ClientError | OperationalError) and not is_missing(error)


def facts(error: BaseException) -> dict[str, str]:
    """Fields of a log event: the kind of error, and where it came from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "where": where}

"""The box itself: whether it is on, and the key that visitors' usage hangs on."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import timedelta

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from serving.keys import KeyRecord
from serving.try_it.allowance import Allowance
from studio.db.sessions import unit_of_work
from studio.errors import NotFound, ServiceUnavailable

MOST_CHARACTERS = 400
MOST_TOKENS = 120  # of an answer
_ASK_AGAIN = timedelta(minutes=1)  # whether the visitors' key was revoked


class TryIt:
    """One per process."""

    def __init__(self, database: Engine, allowance: Allowance, *, is_on: bool) -> None:
        self.is_on = is_on
        self.allowance = allowance
        self._database = database
        self._word = f"TryIt {secrets.token_urlsafe(32)}"  # nobody outside this process can say it
        self._key: KeyRecord | None = None
        self._asked_at = float("-inf")

    def guest(self, authorization: str) -> KeyRecord | None:
        """The visitors' key, for a request that this box has made."""
        return self._key if secrets.compare_digest(authorization.encode(), self._word.encode()) else None

    async def open(self) -> bytes:
        """What a request of the box shows for `Authorization`. NotFound while it is off."""
        if self.is_on and time.monotonic() - self._asked_at > _ASK_AGAIN.total_seconds():
            try:
                self._key = await asyncio.to_thread(self._read)
            except SQLAlchemyError as error:
                if self._key is None:
                    raise ServiceUnavailable(
                        "The try-it box cannot be opened at the moment.", retry_after=timedelta(seconds=5)
                    ) from error
            self._asked_at = time.monotonic()
        if not self.is_on or self._key is None:
            raise NotFound("The try-it box is off here.", way_out="With a key or a sign-in you can use the playground.")
        return self._word.encode()

    def _read(self) -> KeyRecord | None:
        with unit_of_work(self._database) as session:
            row = session.execute(text("select * from try_it_key()")).one()
        if row.is_ended:
            return None
        return KeyRecord(row.id, row.prefix, row.tenant_id, "try-it", frozenset({"inference"}), None)

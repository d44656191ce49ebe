"""How many requests may wait at this gateway for an answer that another run is to give. Each of them holds its body and
asks the database now and then, so there is an end to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from studio.errors import RateLimited, ServiceUnavailable

MOST = 256
MOST_OF_TENANT = 32
RETRY = timedelta(seconds=2)


class Joins:
    """Those that wait."""

    def __init__(self) -> None:
        self._of_tenant: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self, tenant_id: UUID) -> Iterator[None]:
        """While one more waits. RateLimited when its tenant has too many that do, ServiceUnavailable when all have."""
        if self._of_tenant[tenant_id] >= MOST_OF_TENANT:
            raise RateLimited(
                f"{MOST_OF_TENANT} requests at once that wait for the answer to an earlier one with their"
                " Idempotency-Key (that one goes on)",
                RETRY,
            )
        if self._of_tenant.total() >= MOST:
            raise ServiceUnavailable(
                "Too many requests wait here for the answer to an earlier one with their Idempotency-Key; that one"
                " goes on.",
                retry_after=RETRY,
            )
        self._of_tenant[tenant_id] += 1
        try:
            yield
        finally:
            self._of_tenant[tenant_id] -= 1
            if not self._of_tenant[tenant_id]:
                del self._of_tenant[tenant_id]

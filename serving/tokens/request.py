"""A request that was admitted: everything about it that is known before an engine is asked."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from serving.budgets.book import Reservation
from serving.cache.reuse import Reuse
from serving.cross_check.sample import Sample
from serving.envelope import Headers
from serving.fleet.view import Variant
from serving.keys import KeyRecord
from serving.limits.limiter import Lease
from serving.routing import Target
from serving.tokens.answers import Dialect
from serving.tokens.wire import Call
from serving.traces import Timeline
from studio import ids


class Request(msgspec.Struct, frozen=True):
    """One, until its last byte."""

    id: UUID
    started_at: datetime
    caller: KeyRecord
    call: Call
    target: Target
    dialect: Dialect
    lease: Lease | None = None  # of a caller that has limits
    reservation: Reservation | None = None  # where a budget holds
    tag: str | None = None  # the caller's own word for what it is for
    timeline: Timeline | None = None  # of a request that is traced
    reuse: Reuse | None = None  # of a caller that wants the cache
    sample: Sample | None = None  # of a request that is counted again
    admitted_at: datetime | None = None  # since when it waits for us alone

    @property
    def variant(self) -> Variant:
        """What is metered and priced."""
        return self.target.variant

    @property
    def headers(self) -> Headers:
        """What a good answer carries."""
        of_limits = [] if self.lease is None else self.lease.headers
        return of_limits if self.reuse is None else of_limits + self.reuse.headers


def request_id(id: UUID) -> str:
    """How a request is named to its caller and in `usage_events`."""
    return f"req_{id.hex}"


def about(request: Request) -> dict[str, str]:
    """What a log says of a request, so that it can be found by either."""
    return {"request": request_id(request.id), "tenant": ids.to_wire(ids.TENANT, request.caller.tenant_id)}

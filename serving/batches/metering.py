"""Usage of batch lines: the same events as a gateway's, inserted by the transaction that commits their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from serving.batches import workers
from serving.usage_event import UsageEvent
from studio import ids
from studio.db.usage import UsageStaging

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LineUsage:
    """What an engine counted for one line."""

    line: int
    event: UsageEvent

    @property
    def tokens(self) -> int:
        """Prompt and completion."""
        return self.event.prompt_tokens + self.event.completion_tokens


def line_id(batch_id: UUID, line: int, started_at: datetime) -> UUID:
    """The id of a line that is asked at an instant: of its result, and of its event if it becomes one.

    It names the day on which the line began, as every event's id must, since usage is sealed by that day; a batch may
    run for a week. A line cannot become two events: the shard's row lets only one attempt commit.
    """
    return ids.uuid7_of(started_at, b"%b/%d" % (batch_id.bytes, line))


def insert_usage(session: Session, worker_id: UUID, batch_id: UUID, used: Sequence[LineUsage], now: datetime) -> None:
    """Insert the events of a batch, numbered without a gap."""
    if not used:
        return
    first_seq = workers.take_numbers(session, worker_id, len(used), now)
    shipment_id = ids.uuid7()
    session.execute(
        insert(UsageStaging),
        [
            {
                **msgspec.structs.asdict(one.event),
                "shipment_id": shipment_id,
                "row": row,
                "source_id": worker_id,
                "source_seq": first_seq + row,
                "batch_id": batch_id,
                "batch_line": one.line,
            }
            for row, one in enumerate(used)
        ],
    )
    quarantined: int = session.execute(_ACCEPT, {"shipment": shipment_id}).scalar_one()
    if quarantined:
        log.warning("usage_quarantined", source=str(worker_id), events=quarantined)


_ACCEPT = text("select quarantined from accept_usage(:shipment)")

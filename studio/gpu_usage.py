"""How GPU hours stand among metered usage: one event for each tenant and civil day on which cards are reserved for it.

Its quantity is in `prompt_tokens`: millionths of a GPU hour, so a price per 1,000,000 is that of one card kept for one
hour. Measured and written by `billing/gpu_hours.py`, priced by `billing/usage.py`.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from studio import ids

ENDPOINT = "gpu_hour"  # of its event; nobody calls it
PRODUCT = "gpu"  # where a model's variant stands otherwise: a row that no site deploys and no list of models shows
UNIT = "gpu_hour"
CARD_MICROSECONDS = 3600  # of a millionth of a GPU hour
SOURCE_ID = UUID("019b76da-a800-7000-8000-6770752d6872")  # one usage source for all of it


def event_id(tenant_id: UUID, day: date, instant: datetime) -> UUID:
    """The id of a tenant's day, whoever writes it and however often. `instant`: the last of the day."""
    return ids.uuid7_of(instant, b"gpu hours " + tenant_id.bytes + day.isoformat().encode())

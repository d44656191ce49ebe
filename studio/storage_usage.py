"""How storage stands among metered usage: one event for each tenant and civil day. No tokens of requests.

Its quantity is in `prompt_tokens`: kilobyte-days, so a price per 1,000,000 is that of one gigabyte kept for a day
(10^9 bytes, 24 hours). Measured and written by `billing/storage.py`, priced by `billing/usage.py`.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from studio import gpu_usage, ids, training_usage

ENDPOINT = "storage"  # of its event; nobody calls it
PRODUCT = "storage"  # where a model's variant stands otherwise: a row that no site deploys and no list of models shows
UNIT = "storage"
BYTE_SECONDS = 1000 * 86_400  # of a kilobyte-day; a day of 25 hours holds more of them
SOURCE_ID = UUID("019b76da-a800-7000-8000-73746f726167")  # one usage source for all of it
NO_KEY = UUID(int=0)  # nobody asked for it

OF_NO_REQUEST = (training_usage.ENDPOINT, ENDPOINT, gpu_usage.ENDPOINT)  # what reports of requests leave out


def event_id(tenant_id: UUID, day: date, instant: datetime) -> UUID:
    """The id of a tenant's day, whoever writes it and however often. `instant`: the last of the day."""
    return ids.uuid7_of(instant, b"storage " + tenant_id.bytes + day.isoformat().encode())

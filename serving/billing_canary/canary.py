"""One flight: a key for the hour, some requests, and the bill over their events beside the canary's own count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from billing import dry_run
from billing.dry_run import DryBill
from serving.billing_canary import own_count
from serving.isolation.front_door import FrontDoor
from studio import api_keys, ids
from studio.db.sessions import unit_of_work
from studio.errors import ServiceUnavailable

# Different lengths, and one twice: a prompt that an engine remembers is billed as cached.
REQUESTS = (
    {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1},
    {"messages": [{"role": "user", "content": "Count from one to ten, please."}], "max_tokens": 12},
    {"messages": [{"role": "user", "content": "Count from one to ten, please."}], "max_tokens": 12},
)
ARRIVAL = timedelta(seconds=90)  # events are shipped within seconds
_LOOK_SECONDS = 0.25
NOTHING_WARM = "skipped: nothing warm"


@dataclass(frozen=True, slots=True)
class Flight:
    """What came of it. `skipped` says why nothing was asked; then nothing is proven either."""

    skipped: str | None
    model: str = ""
    answers: int = 0
    events: int = 0
    own: Fraction = Fraction(0)
    billed: Decimal = Decimal(0)
    unpriced: int = 0
    lines: tuple[dry_run.DryLine, ...] = ()

    @property
    def agrees(self) -> bool:
        """Every answer has one event, every token one price, and the bill is the own count, to the last digit."""
        is_whole = self.skipped is None and self.answers == self.events == len(REQUESTS) and not self.unpriced
        return is_whole and Fraction(self.billed) == self.own


def fly(worker: Engine, gateway_url: str) -> Flight:
    """Ask, wait for the events, bill. An error that is no finding (no gateway, no database) is raised."""
    with _key(worker) as (tenant_id, key_id, key), FrontDoor(gateway_url, key) as door:
        chosen = own_count.cheapest_warm(door.read("/v1/models")["data"])
        if chosen is None:
            return Flight(NOTHING_WARM)
        usages = list(_ask(door, chosen.model))
        bill = _bill(worker, tenant_id, key_id, len(usages))
    return Flight(
        None, chosen.model, len(usages), bill.events, own_count.own_bill(usages, chosen.prices), bill.exact,
        bill.unpriced, bill.lines,
    )  # fmt: skip


def _ask(door: FrontDoor, model: str) -> Iterator[Mapping[str, Any]]:
    for request in REQUESTS:
        answer = door.send("/v1/chat/completions", {"model": model, **request})
        if answer.status_code != 200:
            raise ServiceUnavailable(
                f"{model} answered {answer.status_code}: nothing can be compared.", retry_after=timedelta(hours=1)
            )
        yield answer.json()["usage"]


def _bill(worker: Engine, tenant_id: UUID, key_id: UUID, answers: int) -> DryBill:
    """When all events have arrived; what there is when they do not."""
    deadline = time.monotonic() + ARRIVAL.total_seconds()
    while True:
        with unit_of_work(worker) as session:
            bill = dry_run.bill_of_key(session, tenant_id, key_id)
        if bill.events >= answers or time.monotonic() > deadline:
            return bill
        time.sleep(_LOOK_SECONDS)


@contextmanager
def _key(worker: Engine) -> Iterator[tuple[UUID, UUID, str]]:
    """The canary's tenant and a key, which ends with the block; should it be killed, within an hour."""
    minted, key_id = api_keys.mint(), ids.uuid7()
    values = {"id": key_id, "prefix": minted.prefix, "hash": minted.secret_hash}
    try:
        with unit_of_work(worker) as session:
            tenant_id: UUID = session.execute(
                text("select open_billing_canary(:id, :prefix, :hash)"), values
            ).scalar_one()
        yield tenant_id, key_id, minted.text
    finally:
        with unit_of_work(worker) as session:
            session.execute(text("select close_billing_canary()"))

"""`x-max-wait`: a caller that would rather wait for a cold model than be told to come back.

Who waits is woken by the next reading of the fleet, which follows a replica's change within milliseconds. One comes
every two seconds anyway: that an engine of somebody else's begins to answer is announced by nobody. Nothing is reserved
or sent meanwhile, and a caller that leaves is let go at once.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from serving import routing
from serving.fleet.view import FleetView
from serving.replica_health import Health
from serving.routing import Target
from serving.tokens.client import Client, ClientLeft
from studio.errors import InvalidRequest

HEADER = "x-max-wait"
LONGEST_SECONDS = 120.0  # as long as SDKs are willing to wait for anything


def seconds_of(header: str | None) -> float:
    """What the header says; 0 without one. InvalidRequest when it says something else."""
    if header is None:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SECONDS:  # false for NaN, too
        raise InvalidRequest(
            f"The header `{HEADER}` must be a number of seconds from 0 to {LONGEST_SECONDS:.0f}: how long the request"
            f" may wait for the model to be ready.",
            param=HEADER,
        )
    return seconds


async def ready_target(view: FleetView, health: Health, client: Client, model: str, tenant_id: UUID) -> Target:
    """What `model` means, once a replica answers for it or the caller's patience is over, whichever comes first."""
    patience = seconds_of(client.header(HEADER.encode()))
    target = routing.target_named(view.fleet, model, tenant_id)
    if not patience or routing.is_ready(view.fleet, target, health.silent()):
        return target
    left = asyncio.Event()
    client.watch(left.set)
    leaving = asyncio.create_task(left.wait())
    waiting = asyncio.create_task(_until_ready(view, health, model, tenant_id))
    try:
        await asyncio.wait({leaving, waiting}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if client.left:
            raise ClientLeft
        return waiting.result() if waiting.done() else routing.target_named(view.fleet, model, tenant_id)
    finally:
        client.stop_watching()
        leaving.cancel()
        waiting.cancel()


async def _until_ready(view: FleetView, health: Health, model: str, tenant_id: UUID) -> Target:
    while True:
        target = routing.target_named(view.fleet, model, tenant_id)
        if routing.is_ready(view.fleet, target, health.silent()):
            return target
        await view.next()

"""Probes: each gateway asks every ready replica every few seconds whether it lives.

Requests find out by themselves that a replica is gone; probes find out before them, and that it has come back.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from serving.engines import Engines
from serving.fleet.view import FleetView

EVERY = timedelta(seconds=3)  # with two in a row to eject: a replica that dies unnoticed gets no request after 6 s
AT_ONCE = 32


async def probe_forever(engines: Engines, view: FleetView) -> None:
    """Until cancelled. One round after the other: a fleet that answers slowly is asked less often."""
    room = asyncio.Semaphore(AT_ONCE)
    while True:
        fleet = view.fleet
        ready = [one for replicas in fleet.replicas.values() for one in replicas if one.state == "ready"]
        engines.balancer.health.keep({one.id for one in ready})

        async with asyncio.TaskGroup() as probes:
            for replica in ready:
                await room.acquire()
                probes.create_task(engines.probe(replica)).add_done_callback(lambda _: room.release())
        await asyncio.sleep(EVERY.total_seconds())

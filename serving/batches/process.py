"""A drain in a process: what it is equipped with by the settings, and how signals end it."""

from __future__ import annotations

import asyncio
import signal

from serving.batches.drain import Drain, Equipment, Pace
from studio.db.sessions import engine_for
from studio.objects import ObjectStore
from studio.settings import SettingMissing, Settings

# A worker's transactions take milliseconds. One that is frozen within one must not keep from the others what it locked.
FROZEN_SECONDS = 5


def equipment_of(config: Settings, pace: Pace | None = None) -> Equipment:
    """What the settings name. Nothing is contacted yet."""
    if config.cache_salt_key is None:
        raise SettingMissing("STUDIO_CACHE_SALT_KEY is not set for this process")
    return Equipment(
        engine_for(config.database_url("worker"), idle_in_transaction_seconds=FROZEN_SECONDS),
        ObjectStore.from_settings(config),
        config.cache_salt_key.get_secret_value().encode(),
        pace or Pace(lines_per_replica=config.batch_lines_per_replica),
    )


def run(drain: Drain) -> None:
    """Until it ends by itself, or a signal says to stop: then it keeps what is finished and puts the rest back."""
    asyncio.run(_run(drain))


async def _run(drain: Drain) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, drain.stop)
    await drain.run()

"""The parts that every request of one gateway process works with."""

from __future__ import annotations

from dataclasses import dataclass

from serving.budgets.book import Budgets
from serving.cache.cache import Cache
from serving.cross_check.checker import CrossCheck
from serving.engines import Engines
from serving.fleet.view import FleetView
from serving.identity.callers import Callers
from serving.images.fetching import Images
from serving.journal import Journal
from serving.keys import Keys
from serving.limits.limiter import Limiter
from serving.metrics import Metrics
from serving.sign_in.desk import Desk
from serving.speeds import Speeds
from serving.traces import Traces
from serving.try_it.box import TryIt


@dataclass(frozen=True, slots=True)
class Gateway:
    """Assembled in `__main__.py`."""

    keys: Keys
    callers: Callers
    desk: Desk
    try_it: TryIt
    speeds: Speeds
    view: FleetView
    limits: Limiter
    budgets: Budgets
    engines: Engines
    images: Images
    cache: Cache
    journal: Journal
    metrics: Metrics
    traces: Traces
    cross_check: CrossCheck
    cache_salt_key: bytes
    max_body_bytes: int

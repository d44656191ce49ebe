"""The internal listener: whether this process lives and may be sent requests, and its metrics. Never public."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.feed import Feed
from serving.gateway import Gateway
from serving.journal_segments import size
from serving.shipper import Shipper
from studio import clock


class Lifecycle:
    """Turns true when the process has been told to stop: it still answers what it has begun."""

    is_stopping = False


def internal_application(gateway: Gateway, feed: Feed, shipper: Shipper, lifecycle: Lifecycle) -> Starlette:
    """Three paths."""

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        """A database that is away is shown but does not count: requests are answered without it."""
        obstacles = {
            "stopping": lifecycle.is_stopping,
            "catalog_and_keys_not_loaded": not feed.loaded.is_set(),
            "journal_broken": gateway.journal.broken,
            "shipper_dead": not shipper.is_alive,
        }
        reasons = [name for name, holds in obstacles.items() if holds]
        body = {
            "status": "not_ready" if reasons else "ready",
            "reasons": reasons,
            "database": "connected" if feed.connected else "away",
            "limits": gateway.limits.state,
            "cache": gateway.cache.shelf.state,
            "usage_pending": shipper.pending,
        }
        return JSONResponse(body, 503 if reasons else 200)

    async def metrics(_: Request) -> Response:
        gateway.metrics.journal_pending.set(shipper.pending)
        lag = (clock.now() - shipper.level_at).total_seconds() if shipper.pending and shipper.level_at else 0
        gateway.metrics.shipper_lag.set(lag)
        oldest = shipper.oldest_pending_at
        gateway.metrics.journal_oldest.set(max((clock.now() - oldest).total_seconds(), 0) if oldest else 0)
        gateway.metrics.journal_bytes.set(size(gateway.journal.directory))
        gateway.metrics.limits_local.set(gateway.limits.state == "local_share")
        gateway.metrics.observe_disk(gateway.journal.directory)
        gateway.metrics.observe_replicas(gateway.view.fleet, gateway.engines.balancer)
        return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)])

"""What the gateway measures of itself, as `studio_*` for Prometheus. What it bills is the journal, never a metric."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.balance import Balancer
from serving.fleet.view import Fleet, Variant
from serving.tokens.usage import TokenCounts
from studio import ids

_LABELS = ("model", "variant", "tier")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_UNROUTED = ("", "", "")  # refused before a variant was known; a caller's own words never become a label


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "studio_requests", "Requests of the token endpoints by status", (*_LABELS, "status"), registry=self.registry
        )
        self._tokens = Counter("studio_tokens", "Tokens metered", (*_LABELS, "kind"), registry=self.registry)
        self._cache = Counter(
            "studio_cache_requests", "Requests that wanted the cache", (*_LABELS, "outcome"), registry=self.registry
        )
        self._ttft = Histogram(
            "studio_time_to_first_token_seconds",
            "From the request's arrival to the engine's first token",
            _LABELS,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._per_token = Histogram(
            "studio_time_per_output_token_seconds",
            "Between two tokens of an answer, on average, after its first one; of answers that stream",
            _LABELS,
            buckets=_TOKEN_SECONDS,
            registry=self.registry,
        )
        self._duration = Histogram(
            "studio_request_seconds",
            "From the request's arrival to its last byte",
            _LABELS,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("studio_requests_in_flight", "Token requests being answered", registry=self.registry)
        self.journal_pending = Gauge(
            "studio_journal_pending", "Usage events in the journal and not yet in the database", registry=self.registry
        )
        self.shipper_lag = Gauge(
            "studio_shipper_lag_seconds", "Since the database last had all usage", registry=self.registry
        )
        self.journal_bytes = Gauge(
            "studio_journal_bytes", "Size of this gateway's journal, all its segments", registry=self.registry
        )
        self.journal_oldest = Gauge(
            "studio_journal_oldest_unshipped_seconds",
            "Since the oldest request ended whose usage event is not in the database; 0 when all are",
            registry=self.registry,
        )
        self.journal_disk_free = Gauge(
            "studio_journal_disk_free_bytes", "Free space on the volume of the journal", registry=self.registry
        )
        self.journal_disk = Gauge(
            "studio_journal_disk_bytes", "Size of the volume of the journal", registry=self.registry
        )
        self.limits_local = Gauge(
            "studio_limits_local", "1 while Valkey is away and limits go on with a local share", registry=self.registry
        )
        self._replica_healthy = Gauge(
            "studio_replica_healthy",
            "Whether this gateway sends requests to a ready replica (0: ejected, it does not answer well)",
            ("variant", "replica"),
            registry=self.registry,
        )
        self._replica_outstanding = Gauge(
            "studio_replica_outstanding",
            "Requests of this gateway that a ready replica holds",
            ("variant", "replica"),
            registry=self.registry,
        )
        self._cross_checked = Counter(
            "studio_cross_checked_tokens",
            "Tokens of requests that were counted again, as metered and as their model's tokenizer counts them",
            ("model", "kind", "by"),
            registry=self.registry,
        )
        self._cross_checks_skipped = Counter(
            "studio_cross_checks_skipped",
            "Requests that were drawn to be counted again and were not",
            ("model", "reason"),
            registry=self.registry,
        )
        self._cross_check_difference = Gauge(
            "studio_cross_check_difference",
            "Share of the counted tokens by which the metered ones differ, over all that this process has checked",
            ("model",),
            registry=self.registry,
        )
        self._counted_again: dict[str, tuple[int, int]] = {}  # by model: tokens that differ, tokens counted
        # Looking a label set up costs more than counting, and there are few of them.
        self._requests_of = cache(self._requests.labels)
        self._tokens_of = cache(self._tokens.labels)
        self._ttft_of = cache(self._ttft.labels)
        self._per_token_of = cache(self._per_token.labels)
        self._duration_of = cache(self._duration.labels)

    def request_ended(self, variant: Variant | None, status: int, duration: timedelta) -> None:
        """One request, whatever became of it."""
        labels = _UNROUTED if variant is None else _labels(variant)
        self._requests_of(*labels, status).inc()
        self._duration_of(*labels).observe(duration.total_seconds())

    def cache_asked(self, variant: Variant, outcome: str) -> None:
        """One request that wanted the cache."""
        self._cache.labels(*_labels(variant), outcome).inc()

    def observe_disk(self, folder: Path) -> None:
        """How full the volume of the journal is."""
        try:
            usage = shutil.disk_usage(folder)
        except OSError:  # a volume that is gone has no room either; the other figures are wanted all the more
            self.journal_disk_free.set(0)
            return
        self.journal_disk.set(usage.total)
        self.journal_disk_free.set(usage.free)

    def observe_replicas(self, fleet: Fleet, balancer: Balancer) -> None:
        """The ready replicas as they are now; those that are gone leave no label behind."""
        self._replica_healthy.clear()
        self._replica_outstanding.clear()
        for variant_id, replicas in fleet.replicas.items():
            for replica in replicas:
                if replica.state == "ready":
                    labels = (variant_id, ids.to_wire(ids.REPLICA, replica.id))
                    self._replica_healthy.labels(*labels).set(balancer.health.is_healthy(replica.id))
                    self._replica_outstanding.labels(*labels).set(balancer.requests_of(replica))

    def metered(
        self,
        variant: Variant,
        counts: TokenCounts,
        started_at: datetime,
        first_token_at: datetime | None,
        ended_at: datetime,
    ) -> None:
        """The usage of one request. `first_token_at` is None of an answer that came in one piece."""
        labels = _labels(variant)
        self._tokens_of(*labels, "prompt").inc(counts.prompt)
        self._tokens_of(*labels, "cached_prompt").inc(counts.cached)
        self._tokens_of(*labels, "completion").inc(counts.completion)
        self._tokens_of(*labels, "reused").inc(counts.reused)
        if first_token_at is not None:
            self._ttft_of(*labels).observe((first_token_at - started_at).total_seconds())
            if counts.completion > 1:
                self._per_token_of(*labels).observe(
                    (ended_at - first_token_at).total_seconds() / (counts.completion - 1)
                )

    def cross_checked(self, model_id: str, kind: str, metered: int, counted: int) -> None:
        """One request's tokens of one kind, counted twice. Differences do not cancel each other out."""
        self._cross_checked.labels(model_id, kind, "meter").inc(metered)
        self._cross_checked.labels(model_id, kind, "tokenizer").inc(counted)
        differing, all_counted = self._counted_again.get(model_id, (0, 0))
        differing, all_counted = differing + abs(metered - counted), all_counted + counted
        self._counted_again[model_id] = differing, all_counted
        self._cross_check_difference.labels(model_id).set(differing / max(all_counted, 1))

    def cross_check_skipped(self, model_id: str, reason: str) -> None:
        """One request that could not be counted again."""
        self._cross_checks_skipped.labels(model_id, reason).inc()


def _labels(variant: Variant) -> tuple[str, str, str]:
    return variant.model_id, variant.id, variant.tier

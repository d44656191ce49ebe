"""Prometheus, asked over its HTTP API. Numbers come as text and become Decimals, never floats."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from studio.errors import StudioError

_TIMEOUT_SECONDS = 30


class PrometheusUnanswered(StudioError):
    """It is away, or refused the question."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer."""

    labels: dict[str, str]
    value: Decimal


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where it answers (None: there is none here); nothing is contacted before it is asked."""

    url: str | None

    def query(self, expression: str, at: datetime) -> list[Series]:
        """The series of an expression at an instant. PrometheusUnanswered."""
        if self.url is None:
            raise PrometheusUnanswered("STUDIO_PROMETHEUS_URL is not set for this process")
        question = urllib.parse.urlencode({"query": expression, "time": f"{at.timestamp():.3f}"})
        try:
            with urllib.request.urlopen(  # noqa: S310  # the operator's own address
                f"{self.url.rstrip('/')}/api/v1/query?{question}", timeout=_TIMEOUT_SECONDS
            ) as answer:
                found = json.loads(answer.read())["data"]["result"]
        except (OSError, ValueError, KeyError) as error:
            reason = f"Prometheus at {self.url} did not answer {expression}: {error}"
            raise PrometheusUnanswered(reason) from error
        return [Series(one["metric"], Decimal(one["value"][1])) for one in found if one["value"][1] != "NaN"]

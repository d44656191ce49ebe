"""What the catalog says of each variant, as values of the engine chart: `python -m k8s.engine_values`.

One file a variant under `k8s/values/`; a test holds them to the catalog. Images, S3, secrets and nodes are not the
catalog's business: they stand in the operator's own values, which all releases share.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from studio.catalog.declaration import WEEKDAYS, DeclaredCalendar, DeclaredModel, DeclaredVariant, file_name_of
from studio.catalog.judged import Catalog
from studio.catalog.reading import read_catalog
from studio.errors import StudioError
from studio.settings import REPOSITORY

VALUES = Path(__file__).resolve().parent / "values"

_GIB = 2**30
# A start that the kubelet ends because it is slower than all before is begun anew, for ever. So what is allowed, twice
# this, has a floor: ten minutes, and half an hour for the largest, whose weights alone may take that long.
_FLOOR_SECONDS, _FLOOR_SECONDS_LARGE, _LARGE_BYTES = 300, 900, 100 * _GIB
_TENSOR, _PIPELINE, _EAGER = "--tensor-parallel-size", "--pipeline-parallel-size", "--enforce-eager"
_OWN_VALUES = (_TENSOR, _PIPELINE, _EAGER)  # flags that the chart has a value for
_HEAD = "# Written from the catalog by `python -m k8s.engine_values`: change the catalog, not this file.\n"
# Not measured: a process and its share of memory for each card, and the server in front of them.
_CPU_PER_CARD, _CPU_BESIDE = 4, 4
_MEMORY_GIB_PER_CARD, _MEMORY_GIB_BESIDE = 32, 32


class CardsDisagree(StudioError):
    """A variant's flags spread it over another number of cards than its `gpu_count` says."""


def catalog_values(
    catalog: Catalog,
    *,
    of_site: bool = False,
    bucket_prefix: str = "",
    starts: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Values by variant, for all that need cards; `of_site`: only what the site runs, in the site's numbers.

    `starts`: seconds that each variant's starts took there.
    """
    calendars = {calendar.id: calendar for calendar in catalog.calendars}
    replicas_here = {deployed.variant: deployed.replicas for deployed in catalog.site.deploy if not deployed.served_by}
    found = {}
    for model in catalog.models:
        for variant in model.variants:
            if variant.gpu_count == 0 or (of_site and variant.id not in replicas_here):
                continue
            replicas = replicas_here[variant.id] if of_site else variant.suggested_replicas
            calendar = calendars[variant.calendar] if variant.calendar else None
            found[variant.id] = engine_values(model, variant, calendar, replicas, bucket_prefix)
            if measured := (starts or {}).get(variant.id):
                found[variant.id]["engine"]["startSecondsP99"] = start_seconds(measured, variant.weights_bytes)
    return found


def start_seconds(measured: Sequence[float], weights_bytes: int) -> int:
    """The 99th percentile of starts, rounded up, and never below the floor."""
    ordered = sorted(measured)
    percentile = ordered[min(math.ceil(0.99 * len(ordered)), len(ordered)) - 1]
    floor = _FLOOR_SECONDS_LARGE if weights_bytes >= _LARGE_BYTES else _FLOOR_SECONDS
    return max(floor, math.ceil(percentile))


def engine_values(
    model: DeclaredModel, variant: DeclaredVariant, calendar: DeclaredCalendar | None, replicas: int, bucket_prefix: str
) -> dict[str, Any]:
    """Values of one variant. CardsDisagree when `gpu_count` and the flags differ."""
    named = {flag.partition("=")[0]: flag.partition("=")[2] for flag in variant.engine_flags}
    tensor, pipeline = int(named.get(_TENSOR, "1")), int(named.get(_PIPELINE, "1"))
    if tensor * pipeline != variant.gpu_count:
        raise CardsDisagree(
            f"{variant.id}: gpu_count is {variant.gpu_count}, and its engine_flags use {tensor * pipeline} cards"
        )
    triggers = [] if calendar is None or replicas == 0 else window(calendar, replicas)
    return {
        "model": {"id": model.id, "variant": variant.id, "tier": variant.tier},
        "weights": {"uri": f"s3://{bucket_prefix}modelzoo/{variant.weights}"},
        "replicas": replicas,
        "engine": {
            "tensorParallel": tensor,
            "pipelineParallel": pipeline,
            "contextTokens": variant.context_tokens,
            "maxNumSeqs": variant.max_num_seqs,
            "enforceEager": _EAGER in named,
            "flags": [flag for flag in variant.engine_flags if flag.partition("=")[0] not in _OWN_VALUES],
            "env": dict(variant.engine_env),
        },
        "resources": {
            "cpu": str(_CPU_BESIDE + _CPU_PER_CARD * variant.gpu_count),
            "memory": f"{_MEMORY_GIB_BESIDE + _MEMORY_GIB_PER_CARD * variant.gpu_count}Gi",
        },
        # The copy in use and the one that replaces it.
        "models": {"size": f"{math.ceil(2 * variant.weights_bytes / _GIB / 10) * 10 + 10}Gi"},
        "keda": {
            "triggers": triggers,
            "minReplicas": min(variant.closed_replicas, replicas),
            "maxReplicas": max(replicas, 1),
        },
    }


def starts_of(report: str) -> dict[str, list[float]]:
    """Seconds by variant, of the fleet's report. ValueError, KeyError or TypeError when it is none."""
    return {one["model"]: [float(seconds) for seconds in one["seconds"]] for one in json.loads(report)["starts"]}


def window(calendar: DeclaredCalendar, replicas: int) -> list[dict[str, Any]]:
    """KEDA's one cron trigger for a calendar, prewarming included; none when one trigger cannot say it.

    That is so for a calendar with several windows, and for one whose window touches midnight. Holidays are not in it:
    KEDA knows none.
    """
    if len(calendar.hours) != 1:
        return []
    hours = calendar.hours[0]
    starts = hours.opens.hour * 60 + hours.opens.minute - calendar.prewarm_minutes
    ends = hours.closes.hour * 60 + hours.closes.minute
    if not 0 <= starts < ends:
        return []
    days = _days([(WEEKDAYS.index(day) + 1) % 7 for day in hours.days])
    return [
        {
            "timezone": calendar.time_zone,
            "start": f"{starts % 60} {starts // 60} * * {days}",
            "end": f"{ends % 60} {ends // 60} * * {days}",
            "desiredReplicas": replicas,
        }
    ]


def _days(numbers: list[int]) -> str:
    """Cron's days of the week: 0 is Sunday."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, ordered))


def as_file(values: dict[str, Any]) -> str:
    """The text of a values file."""
    return _HEAD + yaml.safe_dump(values, sort_keys=False, width=120)


def main() -> None:
    """Write the files; what the catalog does not say any more is removed."""
    parser = argparse.ArgumentParser(prog="python -m k8s.engine_values", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=VALUES, help="where the files go (default: k8s/values)")
    parser.add_argument("--catalog", type=Path, default=REPOSITORY / "catalog", help="folder of the catalog")
    parser.add_argument("--site", help="only what this site runs, in its numbers (default: all, as suggested)")
    parser.add_argument(
        "--fleet", type=Path, help="what `bin/studio fleet status --json` says there: its starts are taken"
    )
    parser.add_argument("--bucket-prefix", default="", help="as STUDIO_S3_BUCKET_PREFIX")
    wanted = parser.parse_args()
    try:
        catalog = read_catalog(wanted.catalog, wanted.site or "local")
        found = catalog_values(
            catalog,
            of_site=wanted.site is not None,
            bucket_prefix=wanted.bucket_prefix,
            starts=starts_of(wanted.fleet.read_text()) if wanted.fleet else None,
        )
    except StudioError as error:
        raise SystemExit(error.message) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{wanted.fleet} is no report of `bin/studio fleet status --json`: {error}") from error
    wanted.folder.mkdir(parents=True, exist_ok=True)
    for path in wanted.folder.glob("*.yaml"):
        if path.stem not in {file_name_of(variant) for variant in found} and path.read_text().startswith(_HEAD):
            path.unlink()
    if unmeasured := [variant for variant, values in found.items() if "startSecondsP99" not in values["engine"]]:
        print(
            f"Nobody has measured a start of {', '.join(unmeasured)}: their startup probes allow half an hour.",
            file=sys.stderr,
        )
    for variant, values in found.items():
        (wanted.folder / f"{file_name_of(variant)}.yaml").write_text(as_file(values))


if __name__ == "__main__":
    main()

"""Engines whose pods are ready and that do not answer: in the morning not yet, and in the day because they hang."""

from __future__ import annotations

import ast
import shutil
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import httpx
import pytest
from sqlalchemy import Engine, delete, insert, select, update

from assets.cluster import ClusterSite
from orchestration import cluster as orchestrated
from studio import ids
from studio.cluster.answers import Answers
from studio.cluster.special_days import OURS, PAUSED
from studio.db.catalog import ModelVariant
from studio.db.fleet import DesiredReplicas, EngineStart
from studio.db.hours import Calendar, Holiday, HoursOverride
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from studio.tenants import CreatedKey
from tests.k8s.control_plane import ControlPlane
from tests.k8s.engine_door import EngineDoor
from tests.k8s.scaled_objects import scaled_object
from tests.k8s.site_cluster import CLUSTER_OF_THE_SITE, engine
from tests.local.eventually import eventually
from tests.orchestration.location import Location
from tests.server import TestDatabase
from tests.serving.gateway_process import CHAT, GatewayProcess, attach

NAMESPACE = "answering"


class Ticks:
    """Of our driver, as Dagster makes them, and what they leave there."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._cursor: str | None = None
        self.outcomes: list[str] = []  # each change
        self.checks: list[bool] = []  # of `pods_of_engines_start`, as they are recorded

    def tick(self) -> tuple[str, str]:
        """The outcome and what is said of it."""
        with self._location.tick("cluster_scale", self._cursor) as said:
            self._cursor = said.cursor
            for one in said.asset_events:
                if isinstance(one, dg.AssetCheckEvaluation) and one.check_name == "pods_of_engines_start":
                    self.checks.append(one.passed)
        ((_, outcome, _, _, words),) = ast.literal_eval(str(self._cursor))
        if self.outcomes[-1:] != [outcome]:
            self.outcomes.append(outcome)
        return outcome, words

    def until(self, outcome: str) -> str:
        """What is said then."""
        eventually(lambda: self.tick()[0] == outcome, outcome)
        return self.tick()[1]


def test_an_engine_is_warm_once_it_has_answered_and_one_that_hangs_is_told_without_flapping(
    plane: ControlPlane,
    database: TestDatabase,
    worker: Engine,
    operator: Engine,
    api_key: CreatedKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = site_with_a_cluster(tmp_path, NAMESPACE)
    name = engine(plane, NAMESPACE, CHAT)
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    monkeypatch.setattr(orchestrated, "_HEARD", Answers(patience_seconds=0.5, every=timedelta(0)))
    decided(worker, 1)
    with (
        EngineDoor() as door,
        dg.DagsterInstance.ephemeral() as instance,
        GatewayProcess(database, tmp_path) as gateway,
        httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {api_key.text}"}) as api,
    ):
        attach(operator, door.url, CHAT)
        ticks = Ticks(Location({"worker_database": worker, "cluster_site": ClusterSite(folder, "local")}, instance))
        ticks.tick()
        pods_are(plane, name, ready=1)
        # In the morning: it is up, and nobody has asked it for anything.
        assert ticks.tick() == ("starting", "ready; its first request has not been answered yet")
        with unit_of_work(worker) as session:
            assert session.scalars(select(EngineStart)).all() == []
        door.answer()
        ticks.until("in order")
        asked = door.asked[0]
        assert (asked["model"], asked["max_tokens"]) == ("stub", 1)
        with unit_of_work(worker) as session:  # what a start takes, its first answer included: the next one's ETA
            assert session.scalars(select(EngineStart.variant_id)).all() == [CHAT]
        eventually(lambda: shown(api)["state"] == "warm", "callers see it warm")

        # In the day: a card is lost under it, and its process hangs with a good `/health`.
        door.hang()
        assert ticks.until("stuck") == "Its pods are ready, and requests for one token are not answered."
        eventually(lambda: shown(api)["state"] == "unreachable", "callers see that it hangs")
        assert shown(api)["state_reason"] == "Its engine is up and answers no request."
        for _ in range(5):
            assert ticks.tick()[0] == "stuck"
        # A code server that starts anew knows nothing: what was seen stays, until there is an answer.
        monkeypatch.setattr(orchestrated, "_HEARD", Answers(patience_seconds=0.5, every=timedelta(0)))
        for _ in range(5):
            assert ticks.tick()[0] == "stuck"
        door.answer()
        ticks.until("in order")
        eventually(lambda: shown(api)["state"] == "warm", "it is warm again")
    assert ticks.outcomes == ["starting", "in order", "stuck", "in order"]
    assert [was for was, _ in groupby(ticks.checks)] == [True, False, True]


def test_on_a_holiday_kedas_object_keeps_the_fleets_number_and_the_day_after_keda_has_the_word(
    plane: ControlPlane, worker: Engine, catalog: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site_with_a_cluster(tmp_path, "holidays")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    name = engine(plane, "holidays", CHAT)
    plane.succeed(
        *("kubectl", "label", "deployment", name, "--namespace", "holidays", "--overwrite"),
        "studio.xpulink.ai/driver=keda",
    )
    decided(worker, 0)
    with unit_of_work(worker) as session:
        calendar = session.scalars(select(Calendar)).first()
        assert calendar is not None
        session.execute(update(ModelVariant).where(ModelVariant.id == CHAT).values(calendar_id=calendar.id))
        today = datetime.now(ZoneInfo(calendar.time_zone)).date()
        session.execute(delete(Holiday))
        session.execute(insert(Holiday).values(calendar_id=calendar.id, day=today, name="Founders' day"))

    with scaled_object(plane, name, "holidays"), dg.DagsterInstance.ephemeral() as instance:
        location = Location({"worker_database": worker, "cluster_site": ClusterSite(folder, "local")}, instance)

        def paused() -> tuple[str | None, int]:
            """KEDA's annotation after a tick, and the number of pods, which nobody of ours may touch."""
            with location.tick("cluster_scale"):
                pass
            stored = plane.object("scaledobject", "hours", "holidays")["metadata"].get("annotations", {})
            return stored.get(PAUSED), plane.object("deployment", name, "holidays")["spec"]["replicas"]

        assert [paused(), paused()] == [("0", 1), ("0", 1)]
        with unit_of_work(worker) as session:
            session.execute(delete(Holiday))
        assert paused() == (None, 1)
        with unit_of_work(worker) as session:  # a person opens it for a fair
            words = {"replicas": 2, "reason": "fair", "created_by": "ops"}
            session.execute(
                insert(HoursOverride).values(id=ids.uuid7(), variant_id=CHAT, starts_at=datetime.now(UTC), **words)
            )
            session.execute(update(DesiredReplicas).values(replicas=2))
        assert paused() == ("2", 1)
        # What somebody else has said there is theirs, on any day.
        theirs = ("annotate", "scaledobject", "hours", "--namespace", "holidays", "--overwrite")
        plane.succeed("kubectl", *theirs, f"{PAUSED}=5", f"{OURS}-")
        assert paused() == ("5", 1)
        with unit_of_work(worker) as session:
            session.execute(update(HoursOverride).values(ends_at=datetime.now(UTC)))
        assert paused() == ("5", 1)


def site_with_a_cluster(folder: Path, namespace: str) -> Path:
    """Our catalog, whose local site runs its engines in that namespace."""
    shutil.copytree(REPOSITORY / "catalog", folder / "catalog")
    with (folder / "catalog/sites/local.yaml").open("a") as file:
        file.write(CLUSTER_OF_THE_SITE.replace("dagster-engines", namespace))
    return folder / "catalog"


def decided(worker: Engine, replicas: int) -> None:
    """By the fleet, of the chat model."""
    with unit_of_work(worker) as session:
        row = {"variant_id": CHAT, "replicas": replicas, "reason": "tests", "decided_at": datetime.now(UTC)}
        session.execute(insert(DesiredReplicas).values(**row))


def shown(api: httpx.Client) -> dict[str, Any]:
    """The model as callers see it."""
    found: dict[str, Any] = api.get(f"/v1/models/{CHAT}").json()
    return found


def pods_are(plane: ControlPlane, name: str, ready: int) -> None:
    """The Deployment's own word."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
    stored = plane.ask("GET", path) | {"status": {"replicas": 1, "readyReplicas": ready}}
    plane.ask("PUT", f"{path}/status", stored)

"""The journal of a gateway that never starts again: shipped from its volume by a process that takes no requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg

from serving.journal import Journal
from studio import ids
from studio.settings import REPOSITORY
from tests.k8s.rendering import GATEWAY, merged, refusal, template
from tests.k8s.test_charts import assert_restricted
from tests.server import TestDatabase, free_port
from tests.serving.journals import event, write


def run(journal_dir: Path, url: str) -> subprocess.CompletedProcess[str]:
    """The Job's container."""
    return subprocess.run(
        [sys.executable, "-m", "serving.ship_journals"],
        cwd=REPOSITORY,
        env={"STUDIO_JOURNAL_DIR": str(journal_dir), "STUDIO_DATABASE_SHIPPER_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_an_orphaned_volume_is_emptied_into_the_database_and_a_living_one_is_left(
    database: TestDatabase, tmp_path: Path
) -> None:
    url = database.url("shipper")
    journal, events = await write(tmp_path, 30)
    away = run(tmp_path, url.replace(url.rsplit(":", 1)[1].split("/")[0], str(free_port())))
    assert (away.returncode, journal.exists()) == (1, True), "while the database is away nothing is lost"

    living = Journal.create(tmp_path, ids.uuid7())
    await living.append(event())
    refused = run(tmp_path, url)
    assert refused.returncode == 1, "somebody lives there: the volume may not go"
    assert (journal.exists(), living.path.exists()) == (False, True)
    with psycopg.connect(database.url("owner").replace("+psycopg", "")) as connection:
        counted = connection.execute("select count(*) from usage_events").fetchone()
    assert counted == (len(events),)

    await living.close()
    assert run(tmp_path, url).returncode == 0
    assert not living.directory.exists()
    assert run(tmp_path, url).returncode == 0, "an empty volume is shipped already"


def test_the_chart_ships_the_volumes_that_it_is_told_of() -> None:
    documents = template("gateway", merged(GATEWAY, {"orphanedJournals": [2, 3]}), namespace="studio")
    jobs = {one["metadata"]["name"]: one for one in documents if one["kind"] == "Job"}
    assert set(jobs) == {"test-gateway-ship-2", "test-gateway-ship-3"}
    for number in (2, 3):
        pod = jobs[f"test-gateway-ship-{number}"]["spec"]["template"]["spec"]
        assert_restricted(pod)
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": f"journal-test-gateway-{number}"}
        assert pod["containers"][0]["command"] == ["python", "-m", "serving.ship_journals"]
    assert "Job" not in {one["kind"] for one in template("gateway", GATEWAY, namespace="studio")}
    said = refusal("gateway", merged(GATEWAY, {"orphanedJournals": [0]}), namespace="studio")
    assert "gateway 0 is one of the 1 that run" in said

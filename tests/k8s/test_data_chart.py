"""The data chart: its roles are those that the migrations need, its arguments start a real S3 server, no part alone."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from local.commands import backup
from local.ports import MAX_OFFSET, Ports
from local.postgres import EmbeddedPostgres, binary
from local.secrets import DATABASE_ROLES, StackSecrets
from studio.objects import Bucket, ObjectStore
from studio.settings import REPOSITORY, Settings
from tests.k8s.rendering import CHARTS, DATA, Document, merged, refusal, template
from tests.local.eventually import eventually
from tests.server import free_port


@contextmanager
def started(argv: list[str], log: Path, **options: object) -> Iterator[None]:
    """A process for the length of the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdout=file, stderr=file, **options)  # type: ignore[call-overload]
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_roles_of_the_chart_carry_the_migrations_and_no_more(run_folder: Path) -> None:
    """What the chart's script makes in a new server is what `local/postgres.py` makes: the tables come up on it."""
    folder = run_folder / "chart-roles"  # which the server's user may enter
    folder.mkdir()
    secrets = StackSecrets()
    for role in DATABASE_ROLES:
        (folder / role).write_text(secrets.database[role])
    server = EmbeddedPostgres(folder / "data", free_port(), secrets)
    service = server.service()
    server.prepare()
    with started(list(service.argv), folder / "log", user=service.os_user, cwd="/"):
        eventually(server.is_ready, f"PostgreSQL is ready; its log is {folder / 'log'}", 60)
        connection = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": secrets.database_superuser}
        path = f"{binary('psql').parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["sh", str(CHARTS / "data/files/roles.sh")],
            env={**os.environ, **connection, "PATH": path, "ROLE_PASSWORDS": str(folder)},
            check=True,
            capture_output=True,
        )
        subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=REPOSITORY,
            env={**os.environ, "STUDIO_DATABASE_OWNER_URL": server.url("owner")},
            check=True,
            capture_output=True,
        )
        url = server.url("worker").replace("+psycopg", "")
        with psycopg.connect(url) as worker:
            assert worker.execute("select count(*) from tenants").fetchone() == (0,)
            rights = "select rolsuper or rolcreaterole or rolbypassrls from pg_roles where rolname ~ '^studio_'"
            assert worker.execute(rights).fetchall() == [(False,)] * len(DATABASE_ROLES)
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(server.url("dagster").replace("+psycopg", ""))


def container(documents: list[Document], part: str) -> Document:
    """The one container of a part."""
    workload = next(
        one
        for one in documents
        if one["kind"] in ("StatefulSet", "Deployment") and one["metadata"]["name"] == f"test-{part}"
    )
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_arguments_start_a_real_s3_server_that_keeps_its_parts_to_itself(tmp_path: Path) -> None:
    rendered = container(template("data", DATA, namespace="studio"), "s3")
    free = Ports(random.randrange(1_000, MAX_OFFSET))  # below the ephemeral range, with their gRPC twins
    ports = {"s3": free.s3, "master": free.s3_master, "volume": free.s3_volume, "filer": free.s3_filer}
    arguments = [
        re.sub(r"=(/data|/tmp|/etc/seaweedfs)", rf"={tmp_path}\1", argument)
        for argument in rendered["args"]
        if not argument.startswith("-s3.port=")
    ]
    for folder in ("data", "tmp", "etc/seaweedfs"):
        (tmp_path / folder).mkdir(parents=True)
    arguments += [f"-{part}.port={port}" for part, port in ports.items()]
    keys = {"accessKey": "key", "secretKey": "secret of the key"}
    identity = {"name": "studio", "credentials": [keys], "actions": ["Admin"]}
    (tmp_path / "etc/seaweedfs/s3.json").write_text(json.dumps({"identities": [identity]}))
    store = ObjectStore.from_settings(
        Settings.model_validate(
            {
                "s3_endpoint_url": f"http://127.0.0.1:{ports['s3']}",
                "s3_access_key": keys["accessKey"],
                "s3_secret_key": keys["secretKey"],
            }
        )
    )

    def keeps() -> bool:
        try:
            store.ensure_buckets()
            store.put(Bucket.FILES, "probe", b"kept")
            return store.get(Bucket.FILES, "probe") == b"kept"
        except (BotoCoreError, ClientError):
            return False

    weed = [str(Path(sys.prefix) / "bin" / "weed"), *arguments]
    environment = {**os.environ, **{one["name"]: one["value"] for one in rendered["env"] if one["name"] != "HOME"}}
    with started(weed, tmp_path / "log", cwd=tmp_path, env=environment):
        eventually(keeps, f"S3 keeps an object; its log is {tmp_path / 'log'}", 60)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['s3']}/healthz", timeout=5) as answer:
            assert answer.status == 200, "what the probes ask"
        listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        everywhere = {
            int(line.split()[1].split(":")[1], 16)
            for line in listening.splitlines()
            if ":" in line and set(line.split()[1].split(":")[0]) == {"0"}
        }
        assert ports["s3"] in everywhere
        assert not {ports["master"], ports["volume"], ports["filer"]} & everywhere


def test_a_backup_and_its_drill_are_the_commands_of_an_operator() -> None:
    documents = template("data", DATA, namespace="studio")
    jobs = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "CronJob"}
    commands = {}
    for name, spec in jobs.items():
        (one,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        commands[name] = one["command"]
        assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC")
        named = {variable["name"]: variable for variable in one["env"]}
        assert named["STUDIO_S3_ENDPOINT_URL"]["value"] == "http://test-s3.studio.svc:8333"
        assert named["STUDIO_DATABASE_OWNER_URL"]["valueFrom"]["secretKeyRef"]["key"] == "database-owner-url"
    assert commands == {
        "test-backup": ["python", "-m", "local", "backup", "create", "--keep", "14"],
        "test-drill": ["python", "-m", "local", "backup", "drill"],
    }
    known = {command.callback.__name__ for command in backup.app.registered_commands if command.callback}
    assert {"create", "drill"} <= known


def test_memory_is_shared_out_and_volumes_stay() -> None:
    documents = template("data", merged(DATA, {"postgres": {"memory": "6Gi"}}), namespace="studio")
    assert "-cshared_buffers=1536MB" in container(documents, "postgres")["args"]
    claims = [one for one in documents if one["kind"] == "PersistentVolumeClaim"]
    assert [one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in claims] == ["keep", "keep"]


def test_s3_is_open_to_tenants_and_the_database_is_not() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in template("data", DATA, namespace="studio")
        if one["kind"] == "NetworkPolicy"
    }
    assert "studio.xpulink.ai/tenant" in str(policies["test-s3"])
    assert "studio.xpulink.ai/tenant" not in str(policies["test-postgres"]) + str(policies["test-valkey"])
    assert policies["test-postgres"]["egress"] == []


def test_what_cannot_be_is_refused_with_a_way_out() -> None:
    for change, said in (
        ({"postgres": {"image": ""}}, "postgres.image is empty: name it by digest"),
        ({"s3": {"volume": {"path": "/srv/s3"}}}, "name it with `node`"),
        ({"s3": {"enabled": False}}, "say where dumps go"),
        ({"postgres": {"password": "in clear"}}, "password"),
    ):
        assert said in refusal("data", merged(DATA, change), namespace="studio")

"""The embedded servers: passwords are needed, nothing listens beyond loopback, nothing is lost when one is killed."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
import valkey
from botocore.exceptions import ClientError

from local import process_tree
from local.objects import EmbeddedObjectStore
from local.secrets import DATABASE_ROLES, StackSecrets
from local.valkey import EmbeddedValkey
from studio.objects import Bucket
from tests.local.servers import client, free_ports, listening_addresses, serving
from tests.server import TestServer


class TestPostgres:
    def test_every_role_logs_in_with_its_own_password_and_rules_nothing(self, server: TestServer) -> None:
        for role in DATABASE_ROLES:
            database = "dagster" if role == "dagster" else "studio"
            url = server.postgres.url(role, database).replace("+psycopg", "")
            with psycopg.connect(url) as connection:
                row = connection.execute(
                    "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles"
                    " where rolname = current_user"
                ).fetchone()
            assert row == (False,)

    def test_a_wrong_password_is_refused(self, server: TestServer) -> None:
        url = server.postgres.url("owner").replace("+psycopg", "").replace(":", ":x", 2).replace(":x//", "://")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url)

    def test_dagster_and_studio_do_not_enter_each_others_database(self, server: TestServer) -> None:
        for role, database in (("dagster", "studio"), ("worker", "dagster")):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(server.postgres.url(role, database).replace("+psycopg", ""))

    def test_it_listens_on_loopback_alone_and_keeps_what_it_promised(self, server: TestServer) -> None:
        arguments = server.postgres.service().argv
        assert "fsync=off" not in arguments
        pid = int((server.postgres.data / "postmaster.pid").read_text().splitlines()[0])
        assert listening_addresses(pid) == {"127.0.0.1"}


class TestObjects:
    def test_the_wrong_key_is_refused_and_nothing_listens_beyond_loopback(self, objects: EmbeddedObjectStore) -> None:
        store = client(objects, objects.secrets.s3_secret_key)
        store.put(Bucket.FILES, "tnt_1/mine", b"x")
        assert store.get(Bucket.FILES, "tnt_1/mine") == b"x"
        assert store.get(Bucket.FILES, "tnt_1/none") is None
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            client(objects, "wrong").get(Bucket.FILES, "tnt_1/mine")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{objects.ports.s3_filer}/buckets/files/tnt_1/mine")

    def test_what_was_put_is_there_after_a_kill(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        server = EmbeddedObjectStore(tmp_path / "data", tmp_path / "run", free_ports(), StackSecrets())
        store = client(server, server.secrets.s3_secret_key)
        body = os.urandom(6_000_000)
        with serving(server.service(), tmp_path) as process:
            assert listening_addresses(process.pid) == {"127.0.0.1"}
            store.put(Bucket.FILES, "tnt_1/large", body)
            store.put(Bucket.FILES, "tnt_1/small", b"x")
            os.kill(process.pid, signal.SIGKILL)
        with serving(server.service(), tmp_path):
            assert store.get(Bucket.FILES, "tnt_1/large") == body
            assert store.get(Bucket.FILES, "tnt_1/small") == b"x"
            buckets = {bucket["Name"] for bucket in store.client.list_buckets()["Buckets"]}
            assert buckets == {
                "modelzoo",
                "files",
                "adapters",
                "invoices",
                "usage-archive",
                "backups",
                "bank-statements",
            }


class TestValkey:
    def test_it_wants_the_password_and_listens_on_loopback_alone(self, tmp_path: Path) -> None:
        server = EmbeddedValkey(tmp_path, free_ports().valkey, "secret")
        with serving(server.service(), tmp_path) as process:
            assert listening_addresses(process.pid) == {"127.0.0.1"}
            with valkey.Valkey.from_url(server.url) as known:
                known.set("lease", 3)
                assert known.get("lease") == b"3"
            with (
                valkey.Valkey(host="127.0.0.1", port=server.port) as stranger,
                pytest.raises(valkey.exceptions.AuthenticationError),
            ):
                stranger.get("lease")
        assert not process_tree.is_running(process.pid)

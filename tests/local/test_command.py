"""`studio up`, `down`, `status` and `logs` as a user types them, where the stack cannot or does not run."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from local import process_tree
from local.paths import StatePaths
from local.ports import MAX_OFFSET, PortOffsetInvalid, Ports
from local.secrets import StackSecrets
from local.stack import Stack
from local.stack_process import stop
from studio.settings import REPOSITORY
from tests.server import free_port


def studio(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its state in `folder`."""
    return subprocess.run(
        [str(REPOSITORY / "bin" / "studio"), *arguments],
        env={**os.environ, "STUDIO_STATE_DIR": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def offset_with_free_gateway_port() -> int:
    """An offset at which the gateway's port is free at this moment."""
    while True:
        offset = free_port() % MAX_OFFSET
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", Ports(offset).gateway)) != 0:
                return offset


def test_a_taken_port_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    offset = offset_with_free_gateway_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", Ports(offset).gateway))
        other.listen()
        ended = studio(tmp_path, "up", "--port-offset", str(offset))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"Port {8080 + offset}, which gateway needs, is taken by another process: stop that one, or move all ports of"
        " this stack with `studio up --port-offset 100` (or STUDIO_PORT_OFFSET=100).\n"
    )
    assert not list((tmp_path / "data").iterdir())


def test_down_with_nothing_running_is_no_error(tmp_path: Path) -> None:
    ended = studio(tmp_path, "down")
    assert (ended.returncode, ended.stdout) == (0, "Nothing is running.\n")


def test_down_ends_what_a_vanished_supervisor_left(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    paths.create()
    with paths.log("stray").open("wb") as log:
        stray = subprocess.Popen(["sleep", "600"], stdout=log, stderr=log)
    assert stop(paths) == 1
    stray.wait(timeout=5)
    assert not process_tree.is_running(stray.pid)


def test_status_tells_programs_where_everything_is(tmp_path: Path) -> None:
    report = json.loads(studio(tmp_path, "status", "--json").stdout)
    assert report["phase"] == "stopped"
    assert report["gateway_url"] == "http://127.0.0.1:8080"
    assert re.fullmatch(r"postgresql\+psycopg://studio_auditor:\w+@127\.0\.0\.1:15432/studio", report["database_url"])
    assert report["services"] == {}


def test_an_unknown_log_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gateway.log").write_text("one\ntwo\n")
    assert studio(tmp_path, "logs", "gateway", "-n", "1").stdout == "two\n"
    ended = studio(tmp_path, "logs", "nothing")
    assert (ended.returncode, ended.stderr) == (1, "There is no log of nothing. There are: gateway.\n")


def test_a_port_offset_out_of_range_is_refused() -> None:
    with pytest.raises(PortOffsetInvalid, match="between 0 and"):
        Ports(MAX_OFFSET + 1)


def test_secrets_are_generated_once_readable_by_the_owner_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    created = StackSecrets.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert StackSecrets.load_or_create(path) == created
    assert repr(created) == "StackSecrets()"


class TestGivenSecrets:
    """Each process gets the secrets it needs and no others."""

    @pytest.fixture
    def given(self, tmp_path: Path) -> dict[str, set[str]]:
        stack = Stack.from_environment(environ={"STUDIO_STATE_DIR": str(tmp_path)})
        return {
            service.name: {name.removeprefix("STUDIO_") for name in service.env if "DATABASE" in name}
            for service in stack.services()
        }

    def test_database_roles(self, given: dict[str, set[str]]) -> None:
        assert {name: roles for name, roles in given.items() if roles} == {
            "migrate": {"DATABASE_OWNER_URL"},
            "gateway": {"DATABASE_GATEWAY_URL", "DATABASE_OPERATOR_URL", "DATABASE_SHIPPER_URL"},
            "node-agent": {"DATABASE_NODE_AGENT_URL"},
            "dagster-code": {"DATABASE_WORKER_URL", "DATABASE_GATEWAY_URL"},  # which probes isolation
        }

    def test_an_outside_server_replaces_ours(self, tmp_path: Path) -> None:
        outside = {"STUDIO_S3_ENDPOINT_URL": "https://s3.example", "STUDIO_VALKEY_URL": "redis://example"}
        stack = Stack.from_environment(environ={"STUDIO_STATE_DIR": str(tmp_path), **outside})
        services = {service.name: service for service in stack.services()}
        assert not {"s3", "valkey"} & set(services)
        assert services["gateway"].env["STUDIO_S3_ENDPOINT_URL"] == "https://s3.example"
        assert services["gateway"].env["STUDIO_VALKEY_URL"] == "redis://example"


def test_a_secret_that_is_new_in_this_version_is_kept_once_generated(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    older = asdict(StackSecrets.load_or_create(path))
    del older["content_key"]
    path.write_text(json.dumps(older))
    upgraded = StackSecrets.load_or_create(path)
    assert StackSecrets.load_or_create(path) == upgraded
    assert asdict(upgraded) | older == asdict(upgraded)
    assert path.stat().st_mode & 0o077 == 0

"""`studio batch` as a customer types it, against any gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio.settings import REPOSITORY
from tests.serving.batches.books import serving_engine
from tests.serving.batches.conftest import Customer
from tests.serving.batches.orders import line
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess


class Shell:
    """A customer's shell."""

    def __init__(self, gateway: GatewayProcess, customer: Customer) -> None:
        self._environment = os.environ | {"STUDIO_GATEWAY_URL": gateway.url, "STUDIO_API_KEY": customer.key.text}

    def studio(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`studio batch ...`"""
        return subprocess.run(
            [sys.executable, "-m", "local", "batch", *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def shell(batch_gateway: GatewayProcess, customer: Customer) -> Shell:
    """The customer's."""
    return Shell(batch_gateway, customer)


def test_submit_wait_and_fetch(shell: Shell, batch_workers: Workers, house: House, tmp_path: Path) -> None:
    orders, answers = tmp_path / "orders.jsonl", tmp_path / "answers.jsonl"
    orders.write_text("\n".join(line(f"c-{n}") for n in range(3)))
    with serving_engine(house):
        worker = batch_workers.start()
        submitted = shell.studio("submit", str(orders), "--wait", "--json")
        batch_workers.wait(worker)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    batch = json.loads(submitted.stdout)["id"]
    assert "completed: 3 of 3 lines answered" in " ".join(shell.studio("status", batch).stdout.split())
    assert shell.studio("fetch", batch, "--out", str(answers)).returncode == 0
    assert {json.loads(text)["custom_id"] for text in answers.read_text().splitlines()} == {"c-0", "c-1", "c-2"}


def test_a_wrong_file_is_named_line_by_line(shell: Shell, batch_workers: Workers, tmp_path: Path) -> None:
    orders = tmp_path / "orders.jsonl"
    orders.write_text(line("a") + "\n{\n")
    worker = batch_workers.start()
    refused = shell.studio("submit", str(orders), "--wait")
    batch_workers.wait(worker)
    assert refused.returncode == 1
    assert "line 2: The line is not valid JSON" in " ".join(refused.stdout.split())


def test_cancel_and_an_unknown_batch(shell: Shell, tmp_path: Path) -> None:
    orders = tmp_path / "orders.jsonl"
    orders.write_text(line("a"))
    batch = json.loads(shell.studio("submit", str(orders), "--json").stdout)["id"]
    assert "cancelling" in shell.studio("cancel", batch).stdout
    unknown = shell.studio("status", "batch_0")
    assert (unknown.returncode, "No such Batch" in unknown.stderr) == (1, True)


def test_a_batch_runs_only_if_its_quote_is_within_what_is_given(shell: Shell, house: House, tmp_path: Path) -> None:
    orders = tmp_path / "orders.jsonl"
    orders.write_text(line("q-1"))
    with serving_engine(house):
        quoted = shell.studio("quote", str(orders))
        assert "0.01 EUR at most, net" in quoted.stdout, quoted.stderr
        refused = shell.studio("submit", str(orders), "--at-most", "0.00")
        assert (refused.returncode, "more than 0.00; nothing was run" in refused.stderr) == (1, True)
        taken = json.loads(shell.studio("submit", str(orders), "--at-most", "0.01", "--json").stdout)
    assert taken["quote_id"].startswith("qte_")

"""The import contracts hold, and each of them can fail: a contract that catches nothing is decoration."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio.settings import REPOSITORY

PACKAGES = ("assets", "billing", "k8s", "local", "orchestration", "serving", "studio", "training")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        if (REPOSITORY / package).is_dir():
            shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def test_the_contracts_hold(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("studio/clock.py", "import billing.rating"),
        ("billing/rating.py", "import serving.routing"),
        ("serving/routing.py", "import assets.usage"),
        ("assets/usage.py", "import orchestration.build"),
        ("orchestration/build.py", "import local.ports"),
        ("local/ports.py", "import k8s.engine_values"),
        ("billing/rating.py", "import dagster"),
        ("studio/ids.py", "import fastapi"),
        ("serving/fleet/desired.py", "import dagster"),
        ("serving/batches/drain.py", "import fastapi"),
        ("serving/files/records.py", "import fastapi"),
        ("serving/routing.py", "import dagster"),
        ("k8s/exporter/metrics.py", "import serving.routing"),
        ("k8s/exporter/metrics.py", "import studio.settings"),
    ],
)
def test_a_contract_fails_when_it_is_broken(copy: Path, module: str, forbidden: str) -> None:
    path = copy / module
    kept = path.read_text()
    path.write_text(f"{kept}\n{forbidden}\n")
    try:
        assert lint(copy).returncode != 0
    finally:
        path.write_text(kept)


def test_a_gateway_loads_nothing_that_only_others_need() -> None:
    """Each of these costs every gateway megabytes."""
    loads = "import sys, serving.__main__; print(*{name for name, module in sys.modules.items() if module is not None})"
    loaded = subprocess.run([sys.executable, "-c", loads], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    others = {"lightkube", "httpx", "lxml", "saxonche", "duckdb", "dagster", "pandas"}
    with_first_use = {"aiohttp", "jinja2", "yaml", "studio.catalog"}
    assert not {*others, *with_first_use, "rich", "watchfiles", "pydantic.v1"} & set(loaded.stdout.split())

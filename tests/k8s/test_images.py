"""The Containerfiles are not built here; what can be said without a builder is: base, lock, user, contents."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio.settings import REPOSITORY

IMAGES = REPOSITORY / "k8s" / "images"
files = pytest.mark.parametrize("file", sorted(IMAGES.glob("*.Containerfile")), ids=lambda path: path.stem)
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*(?:\[[a-z0-9,]+\])?==\S+)", re.MULTILINE)


def lines(file: Path, instruction: str) -> list[str]:
    """What follows an instruction, wherever it stands."""
    return re.findall(rf"^{instruction} (.+)$", file.read_text(), re.MULTILINE)


def contents(file: Path, folder: Path) -> Path:
    """The application as the image would hold it, and nothing beside it."""
    for copied in lines(file, "COPY"):
        source, _, target = copied.partition(" /srv/studio/")
        if target:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).symlink_to(REPOSITORY / source)
    return folder


@files
def test_the_base_is_given_by_digest_and_the_process_is_nobody(file: Path) -> None:
    assert [line.split()[0] for line in lines(file, "FROM")] == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert lines(file, "ARG") == ["PYTHON_IMAGE"]
    assert lines(file, "USER") == ["10001:10001"]
    assert "--require-hashes" in file.read_text()
    assert all(command.startswith("[") for command in lines(file, "CMD"))


def test_a_base_without_a_digest_is_refused() -> None:
    answer = subprocess.run(
        [IMAGES / "build", "gateway", "docker.io/library/python:3.11-slim", "gateway:test"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "names no digest" in answer.stderr


def test_the_gateway_brings_the_console(tmp_path: Path) -> None:
    copied = [line for line in lines(IMAGES / "gateway.Containerfile", "COPY") if "console" in line]
    assert copied == ["build/console /srv/studio/build/console"]
    # Where nothing is built an image without it is refused, not made.
    (tmp_path / "k8s").mkdir()
    shutil.copytree(IMAGES, tmp_path / "k8s" / "images")
    base = f"docker.io/library/python@sha256:{'1f' * 32}"
    answer = subprocess.run(
        [tmp_path / "k8s/images/build", "gateway", base, "gateway:test"], capture_output=True, text=True, check=False
    )
    assert (answer.returncode, "run `make console` first" in answer.stderr) == (2, True)


def test_images_get_what_was_tested_and_no_test_tools() -> None:
    platform, tested = (
        set(PIN.findall((REPOSITORY / "requirements" / name).read_text())) for name in ("platform.lock", "app.lock")
    )
    assert platform < tested
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & {pin.partition("==")[0] for pin in platform}


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (
            "gateway",
            "import serving.__main__, serving.batches.__main__, serving.state_metrics.__main__, local.fetch_weights",
        ),
        ("dagster", "import orchestration.definitions"),
        ("exporter", "import k8s.exporter.__main__, k8s.device_plugin.__main__"),
    ],
)
def test_the_image_holds_all_that_its_processes_import(image: str, code: str, tmp_path: Path) -> None:
    folder = contents(IMAGES / f"{image}.Containerfile", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)

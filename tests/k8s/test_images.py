"""The Containerfiles are not built here; what can be said without a builder is: base, lock, user, contents."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from k8s.bill_of_materials import bill
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
            (
                "import serving.__main__, serving.batches.__main__, serving.state_metrics.__main__\n"
                "import local.fetch_weights, serving.ship_journals"
            ),
        ),
        ("dagster", "import orchestration.definitions"),
        ("exporter", "import k8s.exporter.__main__, k8s.device_plugin.__main__"),
    ],
)
def test_the_image_holds_all_that_its_processes_import(image: str, code: str, tmp_path: Path) -> None:
    folder = contents(IMAGES / f"{image}.Containerfile", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)


def test_the_trainers_image_holds_every_module_of_ours_that_it_reaches(tmp_path: Path) -> None:
    """Read, not run: PyTorch is the vendor's and is not here."""
    folder = contents(IMAGES / "trainer.Containerfile", tmp_path)
    waiting, seen = ["training.trainer", "local.fetch_weights"], set()
    while waiting:
        if (module := waiting.pop()) in seen:
            continue
        seen.add(module)
        path = folder.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert file.is_file(), f"{module} is not in the image"
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
                "studio",
                "training",
                "local",
            ):
                below = [f"{node.module}.{one.name}" for one in node.names]
                places = [folder.joinpath(*name.split(".")) for name in below]
                is_module = [place.with_suffix(".py").is_file() or place.is_dir() for place in places]
                waiting += [str(node.module), *(name for name, found in zip(below, is_module, strict=True) if found)]
    assert {"training.checkpoints", "studio.weights", "training.examples"} <= seen
    pins = set(PIN.findall((REPOSITORY / "requirements/trainer.lock").read_text()))
    engine = set(PIN.findall((REPOSITORY / "requirements/engine.lock").read_text()))
    platform = set(PIN.findall((REPOSITORY / "requirements/platform.lock").read_text()))
    assert pins <= engine | platform, "what was tested, and no other version"
    assert not {"torch", "transformers"} & {pin.partition("==")[0] for pin in pins}


def test_a_bill_of_materials_lists_every_pin_with_its_hashes() -> None:
    for image in ("gateway", "dagster", "exporter", "trainer"):
        made = bill(image, f"registry.example/{image}@sha256:{'1f' * 32}", "c0ffee")
        locks = {"trainer": ("trainer.lock",), "dagster": ("platform.lock", "invoice-rules.lock")}
        pins = {
            re.sub(r"\[.*\]", "", pin)
            for lock in locks.get(image, ("platform.lock",))
            for pin in PIN.findall((REPOSITORY / "requirements" / lock).read_text())
        }
        assert {f"{one['name']}=={one['version']}" for one in made["components"]} == pins
        for one in made["components"]:
            (reference,) = one["externalReferences"]
            assert reference["hashes"], one["name"]
    assert made == bill("trainer", f"registry.example/trainer@sha256:{'1f' * 32}", "c0ffee")


def test_a_release_refuses_what_nobody_could_build_again(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "k8s" / "images", clone / "k8s" / "images")
    subprocess.run(["git", "init", "--quiet", str(clone)], check=True)
    base = f"docker.io/library/python@sha256:{'1f' * 32}"
    answer = subprocess.run(
        [clone / "k8s/images/release", "gateway", base, "registry.example/gateway:0.1.0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, "an image is released from a commit" in answer.stderr) == (2, True)


def test_what_is_signed_is_the_digest_that_was_pushed_with_the_bill_of_its_lock(tmp_path: Path) -> None:
    """The script as it is, with words in place of buildah, skopeo and cosign: none of them runs here."""
    clone, tools, said = tmp_path / "clone", tmp_path / "tools", tmp_path / "said"
    for part in ("k8s/images", "k8s/bill_of_materials.py", "requirements"):
        source = REPOSITORY / part
        (clone / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / part)
    (clone / ".gitignore").write_text("build/\n__pycache__/\n")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t.example", "-C", str(clone))
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=x")):
        subprocess.run([*git, *arguments], check=True)
    tools.mkdir()
    digest = f"sha256:{'2e' * 32}"
    for name in ("buildah", "skopeo", "cosign"):
        script = f'#!/bin/sh\necho "{name} $*" >> {said}\n' + (f"echo {digest}\n" if name == "skopeo" else "")
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    base = f"docker.io/library/python@sha256:{'1f' * 32}"
    released = subprocess.run(
        [clone / "k8s/images/release", "exporter", base, "registry.example/studio/exporter:0.1.0"],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COSIGN_KEY": "kms://key"},
        capture_output=True,
        text=True,
        check=False,
    )
    image = f"registry.example/studio/exporter@{digest}"
    assert (released.returncode, released.stdout.splitlines()[-1:]) == (0, [image]), released.stderr
    calls = said.read_text().splitlines()
    assert [call.split()[:2] for call in calls] == [
        *(["buildah", "build"], ["buildah", "push"], ["skopeo", "inspect"], ["cosign", "sign"], ["cosign", "attest"]),
    ]
    assert all(call.endswith(image) and "--key kms://key" in call for call in calls[3:])
    described = json.loads((clone / "build/release/exporter.cdx.json").read_text())
    assert f"--predicate {Path('build/release/exporter.cdx.json')}" in calls[4]
    assert described["bomFormat"] == "CycloneDX"
    assert image in str(described["metadata"])

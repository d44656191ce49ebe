"""The containers of `tests/k8s/kubelet` keep what they promise, or what is proven with them is worth nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.k8s.kubelet.container import Container, Identity, Image
from tests.local.eventually import eventually

NOBODY = Identity(10001, 10001, (44,))


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("NOT RUN: containers need root, for mounts of their own")


def run(folder: Path, script: str, *, name: str = "c") -> Container:
    volume, files = folder / "volume", folder / "files"
    for path in (volume, files):
        path.mkdir(exist_ok=True)
    volume.chmod(0o777)
    (files / "ours").write_text("ours\n")
    mounts, image = {"/scratch": volume}, Image({"/srv/ours": files}, {"WHO": "image"}, "/srv/ours")
    command = ["sh", "-c", script]
    root = folder / "roots" / name
    return Container(image, command, {"SECRET": "s"}, mounts, NOBODY, read_only=True, root=root)


def ended(container: Container) -> int:
    eventually(lambda: container.exit_code() is not None, "it has ended", 60)
    code = container.exit_code()
    assert code is not None
    return code


def test_it_is_nobody_without_rights_in_a_root_that_it_cannot_write(tmp_path: Path) -> None:
    script = """
        echo "$(id -u) $(id -G) $$ $WHO $SECRET $(cat ours)"
        grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | cut -f2 | tr '\\n' ' '; echo
        for path in /new /srv/ours/new /usr/new /scratch/new; do touch $path 2>/dev/null && echo "$path"; done
        ls / | tr '\\n' ' '; env | sort | cut -d= -f1 | tr '\\n' ' '
        exit 7
    """
    container = run(tmp_path, script)
    assert ended(container) == 7
    who, rights, written, rest = container.log().splitlines()
    assert who == "10001 10001 44 1 image s ours"
    assert rights.split() == ["0" * 16, "0" * 16, "1"]
    assert written == "/scratch/new"
    assert (tmp_path / "volume/new").stat().st_uid == 10001
    assert "work" not in rest.split()
    assert set(rest.split()) & set(os.environ) <= {"PATH", "PWD", "_", "SHLVL"}, "nothing of ours is inherited"


def test_its_first_process_hears_only_what_it_has_asked_for_and_a_kill_ends_it(tmp_path: Path) -> None:
    deaf = run(tmp_path, "echo up; while true; do sleep 0.1; done", name="deaf")
    eventually(lambda: "up" in deaf.log(), "it runs", 60)
    deaf.signal(signal.SIGTERM)
    hears = run(tmp_path, "trap 'exit 143' TERM; echo up; while true; do sleep 0.1; done", name="hears")
    eventually(lambda: "up" in hears.log(), "the other runs", 60)
    hears.signal(signal.SIGTERM)
    assert ended(hears) == 143
    assert deaf.exit_code() is None
    deaf.kill()
    assert ended(deaf) == 137

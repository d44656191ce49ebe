"""Our images as folders of this machine, after their Containerfiles: the same files, the packages of their lock.

What they stand on is this machine's system and, in place of the vendor's image, the engine environment.
"""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from studio.settings import REPOSITORY, Settings
from tests.k8s.kubelet.container import Image


def trainer_image(folder: Path) -> Image:
    """That of `k8s/images/trainer.Containerfile`: it sees the engine environment and adds `trainer.lock` to it."""
    written = (REPOSITORY / "k8s" / "images" / "trainer.Containerfile").read_text().replace("\\\n", " ")
    last = [shlex.split(line, comments=True) for line in written.rpartition("\nFROM ")[2].splitlines()]
    copies = {words[2]: REPOSITORY / words[1] for words in last if words[:1] == ["COPY"] and len(words) == 3}
    said = dict(pair.split("=", 1) for words in last if words[:1] == ["ENV"] for pair in words[1:])
    (start,) = [words[1] for words in last if words[:1] == ["WORKDIR"]]

    engine = Settings().engine_python.parent.parent.resolve()
    python = (engine / "bin" / "python").resolve()
    packages = engine / "lib" / "python3.11" / "site-packages"
    environment = folder / "opt-studio"
    own = environment / "lib" / "python3.11" / "site-packages"
    own.mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(python)
    (environment / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    ours = _install("trainer", own)
    (own / "vendor.pth").write_text(f"{packages}\n")  # --system-site-packages of the vendor's
    trees = {"/opt/studio": environment, str(engine): engine, **copies}
    if ours is not None:
        trees[str(ours)] = ours
    if not python.is_relative_to("/usr"):
        trees[str(python.parent.parent)] = python.parent.parent
    variables = said | {"PATH": said["PATH"].replace("${PATH}", "/usr/bin:/bin")}
    return Image(trees, variables, start)


def _install(lock: str, own: Path) -> Path | None:
    """Link the packages of a lock, and no other, from where they are installed here."""
    found: Path | None = None
    locked = (REPOSITORY / "requirements" / f"{lock}.lock").read_text()
    for name in re.findall(r"^([a-z0-9_.-]+)==", locked, re.MULTILINE):
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # the vendor's stand-in has it
            continue
        found = Path(str(installed.locate_file(""))).resolve()
        for entry in {file.parts[0] for file in installed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            (own / entry).symlink_to(found / entry)
    return found

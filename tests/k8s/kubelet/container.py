"""One container as a process of this machine: its own mounts, process ids and user, the machine's network and kernel.

Its root is empty but for what its image brings, is read-only where the pod says so, and its process is number 1 there.
Needs root, for the mounts. Not here: limits of CPU and memory, cards, seccomp, a network of its own.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SYSTEM = ("usr", "etc")  # what any Debian image has; it is this machine's
_LINKS = ("bin", "lib", "lib64", "sbin")
_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True, slots=True)
class Image:
    """What a reference stands for here."""

    trees: Mapping[str, Path]  # by their path in the container; read-only
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"  # where its process starts


@dataclass(frozen=True, slots=True)
class Identity:
    """Who its process is."""

    user: int
    group: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, security: Mapping[str, Any]) -> Identity:
        """As a pod's `securityContext` has it. A pod that does not say is refused: it would be root."""
        more = [*security.get("supplementalGroups", []), *([security["fsGroup"]] if "fsGroup" in security else [])]
        return cls(security["runAsUser"], security["runAsGroup"], tuple(more))


class Container:
    """Started when it is made."""

    def __init__(
        self,
        image: Image,
        command: list[str],
        environment: Mapping[str, str],
        mounts: Mapping[str, Path],
        identity: Identity,
        *,
        read_only: bool,
        root: Path,
    ) -> None:
        root.mkdir(parents=True)
        self._log = root.with_suffix(".log")
        variables = {"PATH": "/usr/bin:/bin", **image.environment, **environment}
        script = "\n".join(_script(root, image, command, variables, mounts, identity, read_only=read_only))
        # The first child is number 1 of the new process ids. Not `unshare --fork`, which loses the exit status of a
        # child that was killed (util-linux 2.38). What our process ignores, a container must not.
        waiting = f"(\n{script}\n) & wait $!"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["env", "--default-signal", "unshare", "--mount", "--pid", "sh", "-euc", waiting],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """As Kubernetes tells it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def signal(self, number: signal.Signals) -> None:
        """To its process, which as number 1 gets none that it has not asked for, but for SIGKILL."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with suppress(OSError):
            for pid in children.read_text().split():
                subprocess.run(["kill", f"-{number.value}", pid], check=False, capture_output=True)

    def kill(self) -> None:
        """At once, and wait for its end."""
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")


def _script(
    root: Path,
    image: Image,
    command: list[str],
    variables: Mapping[str, str],
    mounts: Mapping[str, Path],
    identity: Identity,
    *,
    read_only: bool,
) -> list[str]:
    """A root of its own, then the process in it. The mounts are seen by nobody else and go with the process."""
    at = shlex.quote(str(root))
    lines = [f"mount -t tmpfs -o mode=755 tmpfs {at}", f"cd {at}", "mkdir proc dev tmp", "mount -t proc proc proc"]
    lines += [f"touch dev/{name} && mount --bind /dev/{name} dev/{name}" for name in _DEVICES]
    lines += [f"ln -s usr/{name} {name}" for name in _LINKS if Path(f"/{name}").is_symlink()]
    system = {f"/{name}": Path(f"/{name}") for name in _SYSTEM}
    for path, source in (system | dict(image.trees)).items():
        lines += [_bound(source, path), f"mount -o remount,bind,ro {shlex.quote(path.lstrip('/'))}"]
    lines += [_bound(source, path) for path, source in mounts.items()]
    if read_only:
        lines.append(f"mount -o remount,ro {at}")
    groups = ",".join(map(str, identity.groups))
    who = ["--reuid", str(identity.user), "--regid", str(identity.group)]
    who += ["--groups", groups] if groups else ["--clear-groups"]
    no_rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    told = [f"{name}={value}" for name, value in variables.items()]
    enter = ["chroot", str(root), "setpriv", *who, *no_rights, "env", "-i", f"--chdir={image.folder}", *told, *command]
    return [*lines, f"exec {shlex.join(enter)}"]


def _bound(source: Path, path: str) -> str:
    target = shlex.quote(path.lstrip("/"))
    make = f"mkdir -p {target}"
    if source.is_file():
        make = f"mkdir -p $(dirname {target}) && touch {target}"
    return f"{make} && mount --bind {shlex.quote(str(source))} {target}"

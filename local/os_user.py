"""Which operating-system user an embedded server runs as, and letting that user reach its files.

PostgreSQL refuses to run as root. When we are root it runs as an unprivileged user; otherwise everything is ours.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path


def unprivileged() -> str | None:
    """The user to switch to: `postgres` where the system has one, else `nobody`; None when we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def give(path: Path, user: str | None) -> None:
    """Make a file or folder the user's own."""
    if user is not None:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)


def let_through(path: Path, user: str | None) -> None:
    """Let the user pass through every folder above `path`. Adds only the right to pass, never to list or read."""
    if user is None:
        return
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)

"""The stack of this folder (`STUDIO_STATE_DIR`), as benchmarks that need all of it use it: by its command line."""

import json
import subprocess
import sys
from typing import Any


def studio(*arguments: str) -> str:
    """The command line's stdout; when it fails, its own sentence is on stderr."""
    command = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def status() -> dict[str, Any]:
    """`studio status --json`"""
    document: dict[str, Any] = json.loads(studio("status", "--json"))
    return document


def key_of(tenant: str) -> str:
    """A key of an hour for a tenant, which is made where it is missing. The stack is up."""
    if tenant not in [row["slug"] for row in json.loads(studio("tenant", "list", "--json"))]:
        studio("tenant", "create", tenant, "--name", "Benchmark", "--city", "10115 Berlin", "--email", "a@b.example")
    key: str = json.loads(studio("key", "create", "--tenant", tenant, "--expires-in", "1h", "--json"))["key"]
    return key

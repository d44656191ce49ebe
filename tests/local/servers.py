"""Single embedded servers under test, without a supervisor, and questions about them."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from local.objects import EmbeddedObjectStore
from local.ports import MAX_OFFSET, Ports, is_free
from local.secrets import StackSecrets
from local.services import Service
from studio.objects import ObjectStore
from studio.settings import Settings
from tests.local.eventually import eventually


@contextmanager
def serving(service: Service, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One service of the stack, without the supervisor."""
    service.prepare()
    with (folder / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.argv,
            env=os.environ | dict(service.env),
            cwd=service.cwd,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(service.is_ready, f"{service.name} is ready")
        service.furnish()
        yield process
    finally:
        process.send_signal(service.stop_signal)
        process.wait(timeout=20)


def free_ports() -> Ports:
    """A set of ports of which the object store's are free."""
    # Not always the first: other processes of the tests ask at the same moment.
    for offset in random.sample(range(4000, MAX_OFFSET, 37), 50):
        ports = Ports(offset)
        if all(is_free(port) for port in (ports.s3, ports.s3_filer, ports.s3_master, ports.s3_volume, ports.valkey)):
            return ports
    raise AssertionError("no free ports")


def listening_addresses(pid: int) -> set[str]:
    """Local addresses on which a process accepts TCP connections."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except OSError:
            continue
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:  # LISTEN
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                found.add(socket.inet_ntop(family, words))
    return found


def client(server: EmbeddedObjectStore, secret: str) -> ObjectStore:
    """What a process of ours would use."""
    return ObjectStore.from_settings(
        Settings(
            s3_endpoint_url=server.url,
            s3_access_key=SecretStr(server.secrets.s3_access_key),
            s3_secret_key=SecretStr(secret),
        )
    )


@contextmanager
def running_objects(folder: Path) -> Iterator[EmbeddedObjectStore]:
    """A running S3 server with the buckets."""
    (folder / "run").mkdir(parents=True)
    server = EmbeddedObjectStore(folder / "data", folder / "run", free_ports(), StackSecrets())
    with serving(server.service(), folder):
        yield server

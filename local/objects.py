"""The embedded S3 server: SeaweedFS, all its parts in one process, on loopback."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from local.ports import Ports
from local.secrets import StackSecrets
from local.services import Service
from studio.objects import Bucket, ObjectStore
from studio.settings import Settings

_WEED = Path(sys.prefix) / "bin" / "weed"
_VOLUME_LIMIT_MB = 1024
_PROBE = "readiness"


@dataclass(frozen=True, slots=True)
class EmbeddedObjectStore:
    """One server with one administrator's key."""

    data: Path
    run: Path
    ports: Ports
    secrets: StackSecrets

    @property
    def url(self) -> str:
        """Where S3 clients connect."""
        return f"http://127.0.0.1:{self.ports.s3}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a process that uses the store."""
        return {
            "STUDIO_S3_ENDPOINT_URL": self.url,
            "STUDIO_S3_ACCESS_KEY": self.secrets.s3_access_key,
            "STUDIO_S3_SECRET_KEY": self.secrets.s3_secret_key,
        }

    def listeners(self) -> tuple[tuple[int, str], ...]:
        """Every port, with what listens there. The gRPC twins lie 10,000 higher."""
        parts = {"S3": self.ports.s3, "filer": self.ports.s3_filer, "master": self.ports.s3_master}
        parts |= {"volume": self.ports.s3_volume}
        return tuple((port + twin, f"s3 ({part})") for part, port in parts.items() for twin in (0, 10_000))

    def service(self) -> Service:
        """How the supervisor runs it."""
        ports = self.ports
        return Service(
            name="s3",
            argv=(
                str(_WEED),
                "-logtostderr=true",
                "server",
                f"-dir={self.data}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                f"-master.port={ports.s3_master}",
                f"-master.volumeSizeLimitMB={_VOLUME_LIMIT_MB}",
                "-master.telemetry=false",
                "-master.electionTimeout=1s",  # there is nobody else to elect; the default costs 15 s of each start
                f"-volume.port={ports.s3_volume}",
                "-volume.max=0",  # as many volumes as the disk holds
                "-volume.preStopSeconds=0",
                "-filer",
                f"-filer.port={ports.s3_filer}",
                f"-filer.localSocket={self.run / 'filer.sock'}",
                "-s3",
                f"-s3.port={ports.s3}",
                "-s3.ip.bind=127.0.0.1",
                f"-s3.config={self._identities}",
                f"-s3.localSocket={self.run / 's3.sock'}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ),
            # One volume for each bucket at first, not seven: on a small disk the last bucket would find no room.
            env={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
            port=ports.s3,
            prepare=self.prepare,
            is_ready=self.is_ready,
            cwd=str(self.run),  # where it looks for security.toml
            # Crash-only: on SIGTERM it waits 15 s for peers that one machine does not have. A write has reached the
            # kernel before it is acknowledged, so a kill loses nothing (tests/local/test_objects.py tries it).
            stop_signal=signal.SIGKILL,
        )

    def prepare(self) -> None:
        """Write its key files: one identity, and tokens that close the parts behind S3 to other local users."""
        self.data.mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": self.secrets.s3_access_key, "secretKey": self.secrets.s3_secret_key}]
        identity = {"name": "studio", "credentials": credentials, "actions": ["Admin"]}
        _write_private(self._identities, json.dumps({"identities": [identity]}))
        sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        key = self.secrets.s3_internal_key
        _write_private(self.run / "security.toml", "".join(f'[{section}]\nkey = "{key}"\n' for section in sections))

    def is_ready(self) -> bool:
        """Whether it keeps an object and gives it back; makes the buckets on the way.

        Asking for less is not enough: for a moment after a start it lists buckets but does not know yet where its
        volumes are, and answers every GET with an internal error.
        """
        store = self._client()
        try:
            store.ensure_buckets()
            store.put(Bucket.MODELZOO, _PROBE, b"ready")
            return store.get(Bucket.MODELZOO, _PROBE) == b"ready"
        except (BotoCoreError, ClientError):
            return False

    def _client(self) -> ObjectStore:
        return ObjectStore.from_settings(
            Settings(
                s3_endpoint_url=self.url,
                s3_access_key=SecretStr(self.secrets.s3_access_key),
                s3_secret_key=SecretStr(self.secrets.s3_secret_key),
            )
        )

    @property
    def _identities(self) -> Path:
        return self.run / "s3.json"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)

"""The one-machine stack, declared: which services there are, what each is given, and what replaces them.

A process receives only the secrets it needs. A server is not started when a STUDIO_* setting names an outside one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from local.dagster_home import DagsterHome
from local.objects import EmbeddedObjectStore
from local.paths import StatePaths
from local.ports import Ports
from local.postgres import EmbeddedPostgres
from local.readiness import http_ok
from local.secrets import DATABASE_ROLES, StackSecrets
from local.services import Service
from local.valkey import EmbeddedValkey
from studio.settings import REPOSITORY

_S3_SETTINGS = ("STUDIO_S3_ENDPOINT_URL", "STUDIO_S3_ACCESS_KEY", "STUDIO_S3_SECRET_KEY", "STUDIO_S3_BUCKET_PREFIX")


def database_setting(role: str) -> str:
    """The variable that names a role's database URL."""
    return f"STUDIO_DATABASE_{role.upper()}_URL"


# Read by the stack itself and handed on selectively; removed from what every child inherits.
SECRET_SETTINGS = (
    *(database_setting(role) for role in DATABASE_ROLES),
    *_S3_SETTINGS,
    "STUDIO_VALKEY_URL",
    "STUDIO_CACHE_SALT_KEY",
    "STUDIO_CONTENT_KEY",
    "STUDIO_WEBHOOK_KEY",
    "STUDIO_SMTP_PASSWORD",
    "STUDIO_CERTIFICATE_KEY",
)


@dataclass(frozen=True)
class Stack:
    """One stack: a folder, a set of ports, its secrets, and the outside servers it was told to use."""

    paths: StatePaths
    ports: Ports
    secrets: StackSecrets
    outside: Mapping[str, str]

    @classmethod
    def from_environment(cls, ports: Ports | None = None, environ: Mapping[str, str] = os.environ) -> Stack:
        """The stack of this working directory and environment; its folders and secrets are made when missing."""
        paths = StatePaths.from_environment(environ)
        paths.create()
        outside = {name: environ[name] for name in SECRET_SETTINGS if environ.get(name)}
        secrets = StackSecrets.load_or_create(paths.secrets)
        return cls(paths, ports or Ports.from_environment(environ), secrets, outside)

    @property
    def gateway_url(self) -> str:
        """Where users reach the gateway."""
        return f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def console_url(self) -> str:
        """The first page, which the gateway serves."""
        return f"{self.gateway_url}/"

    @property
    def dagster_url(self) -> str:
        """Dagster's UI."""
        return f"http://127.0.0.1:{self.ports.dagster_web}"

    def database_url(self, role: str) -> str:
        """A role's URL, on the embedded server or the outside one."""
        if self._database_is_outside:
            return self.outside[database_setting(role)]
        if role == "dagster":
            return self._postgres.url("dagster", database="dagster", driver="psycopg2")
        return self._postgres.url(role)

    def listeners(self) -> tuple[tuple[int, str], ...]:
        """Every port that must be free before anything starts, with the service that wants it."""
        ports = self.ports
        found = [
            (ports.gateway, "gateway"),
            (ports.gateway_internal, "gateway (health and metrics)"),
            (ports.dagster_code, "dagster-code"),
            (ports.dagster_web, "dagster-web"),
        ]
        if not self._database_is_outside:
            found.append((ports.postgres, "postgres"))
        if not self._valkey_is_outside:
            found.append((ports.valkey, "valkey"))
        if not self._s3_is_outside:
            found.extend(self._objects.listeners())
        return tuple(found)

    def services(self) -> tuple[Service, ...]:
        """All of them; the supervisor finds the order."""
        embedded = self._embedded_servers()
        servers = tuple(service.name for service in embedded)
        migrate = Service(
            name="migrate",
            argv=(sys.executable, "-m", "alembic", "upgrade", "head"),
            env={database_setting("owner"): self.database_url("owner")},
            depends_on=tuple(name for name in servers if name == "postgres"),
            runs_once=True,
            cwd=str(REPOSITORY),
            start_timeout_seconds=120.0,
        )
        data = (*servers, migrate.name)
        return (*embedded, migrate, self._gateway(data), self._node_agent(data), *self._dagster(data))

    def _embedded_servers(self) -> tuple[Service, ...]:
        servers = []
        if not self._database_is_outside:
            servers.append(self._postgres.service())
        if not self._s3_is_outside:
            servers.append(self._objects.service())
        if not self._valkey_is_outside:
            servers.append(self._valkey.service())
        return tuple(servers)

    def _gateway(self, depends_on: tuple[str, ...]) -> Service:
        health = f"http://127.0.0.1:{self.ports.gateway_internal}/health/ready"
        return Service(
            name="gateway",
            argv=(sys.executable, "-m", "serving"),
            env={
                **self._common,
                **self._database_settings("gateway", "operator", "shipper"),
                **self._s3,
                "STUDIO_VALKEY_URL": self.outside.get("STUDIO_VALKEY_URL") or self._valkey.url,
                "STUDIO_CACHE_SALT_KEY": self._cache_salt_key,
                "STUDIO_CONTENT_KEY": self.outside.get("STUDIO_CONTENT_KEY") or self.secrets.content_key,
                "STUDIO_WEBHOOK_KEY": self._webhook_key,
                "STUDIO_GATEWAY_PORT": str(self.ports.gateway),
                "STUDIO_GATEWAY_INTERNAL_PORT": str(self.ports.gateway_internal),
                "STUDIO_JOURNAL_DIR": str(self.paths.journal),
                "STUDIO_TRY_IT": os.environ.get("STUDIO_TRY_IT", "true"),  # its visitors are at this machine
            },
            port=self.ports.gateway,
            depends_on=depends_on,
            waits_itself=True,
            is_ready=lambda: http_ok(health),
            cwd=str(REPOSITORY),
        )

    def _node_agent(self, depends_on: tuple[str, ...]) -> Service:
        return Service(
            name="node-agent",
            argv=(sys.executable, "-m", "local.node_agent"),
            env={
                **self._common,
                **self._database_settings("node_agent"),
                **self._s3,
                "STUDIO_WEIGHTS_DIR": str(self.paths.weights),
                "STUDIO_ENGINE_PORT_BASE": str(self.ports.engines_from),
                "STUDIO_ENGINE_LOG_DIR": str(self.paths.logs),
            },
            depends_on=depends_on,
            waits_itself=True,
            cwd=str(REPOSITORY),
            stop_grace_seconds=20.0,  # engines finish what they are answering, then end
        )

    def _dagster(self, depends_on: tuple[str, ...]) -> tuple[Service, ...]:
        environment = {
            **self._common,
            **self._database_settings("worker", "gateway"),  # the nightly probe looks through the gateway's eyes
            **self._s3,
            "STUDIO_WEBHOOK_KEY": self._webhook_key,
            **{name: self.outside[name] for name in ("STUDIO_SMTP_PASSWORD",) if name in self.outside},
            "STUDIO_CERTIFICATE_KEY": self.outside.get("STUDIO_CERTIFICATE_KEY") or self.secrets.certificate_key,
            "STUDIO_CACHE_SALT_KEY": self._cache_salt_key,  # runs that drain batches share a tenant's prefixes
            "STUDIO_WEIGHTS_DIR": str(self.paths.weights),  # runs that train read the same verified copies
        }
        home = DagsterHome(self.paths.dagster_home, self.ports, self.database_url("dagster"), environment)
        return home.services(depends_on)

    @property
    def _common(self) -> dict[str, str]:
        """What is no secret and every process of ours may need. A demo's clock offset is allowed on one machine."""
        return {
            "STUDIO_ENV": os.environ.get("STUDIO_ENV", "demo"),
            "STUDIO_GATEWAY_URL": self.gateway_url,
            "STUDIO_DAGSTER_URL": self.dagster_url,
        }

    @property
    def owner_environment(self) -> dict[str, str]:
        """What a person needs who may do everything to database and objects: backups, for one."""
        return {**self._common, **self._database_settings("owner"), **self._s3}

    @property
    def _cache_salt_key(self) -> str:
        return self.outside.get("STUDIO_CACHE_SALT_KEY") or self.secrets.cache_salt_key

    @property
    def _webhook_key(self) -> str:
        return self.outside.get("STUDIO_WEBHOOK_KEY") or self.secrets.webhook_key

    @property
    def _s3(self) -> dict[str, str]:
        if not self._s3_is_outside:
            return self._objects.environment
        return {name: self.outside[name] for name in _S3_SETTINGS if name in self.outside}

    def _database_settings(self, *roles: str) -> dict[str, str]:
        return {database_setting(role): self.database_url(role) for role in roles}

    @property
    def _database_is_outside(self) -> bool:
        return database_setting("owner") in self.outside

    @property
    def _s3_is_outside(self) -> bool:
        return "STUDIO_S3_ENDPOINT_URL" in self.outside

    @property
    def _valkey_is_outside(self) -> bool:
        return "STUDIO_VALKEY_URL" in self.outside

    @cached_property
    def _postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.paths.data / "postgres", self.ports.postgres, self.secrets)

    @cached_property
    def _objects(self) -> EmbeddedObjectStore:
        return EmbeddedObjectStore(self.paths.data / "s3", self.paths.run, self.ports, self.secrets)

    @cached_property
    def _valkey(self) -> EmbeddedValkey:
        return EmbeddedValkey(self.paths.run, self.ports.valkey, self.secrets.valkey)

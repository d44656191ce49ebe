"""The passwords of one stack: generated once, kept in `secrets.json` with mode 0600, given only to who needs them."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DATABASE_ROLES = ("owner", "gateway", "operator", "shipper", "worker", "node_agent", "auditor", "dagster")


def _generated() -> str:
    return secrets.token_hex(24)  # hex needs no quoting in URLs, SQL or configuration files


def _generated_per_role() -> dict[str, str]:
    return {role: _generated() for role in DATABASE_ROLES}


@dataclass(frozen=True, slots=True)
class StackSecrets:
    """Every secret of the embedded servers. `repr` shows none of them."""

    database: dict[str, str] = field(default_factory=_generated_per_role, repr=False)
    database_superuser: str = field(default_factory=_generated, repr=False)
    s3_access_key: str = field(default_factory=_generated, repr=False)
    s3_secret_key: str = field(default_factory=_generated, repr=False)
    s3_internal_key: str = field(default_factory=_generated, repr=False)
    valkey: str = field(default_factory=_generated, repr=False)
    cache_salt_key: str = field(default_factory=_generated, repr=False)
    content_key: str = field(default_factory=_generated, repr=False)
    webhook_key: str = field(default_factory=_generated, repr=False)
    certificate_key: str = field(default_factory=_generated, repr=False)

    @classmethod
    def load_or_create(cls, path: Path) -> StackSecrets:
        """The secrets kept at `path`; what is not there yet is generated and written."""
        kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        held = cls(**kept)
        if kept.keys() != asdict(held).keys():
            # A stack of an older version lacks the newer ones. Written aside first: a cut file would lose all of them.
            beside = path.with_suffix(".new")
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(held), file, indent=1)
            beside.rename(path)
        return held

"""What a tenant can download: the probes of one night, signed over the document's bytes as they stand.

`failed`: something was reached that must not be. `incomplete`: nothing was, and a probe could not be made.
`passed`: neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from serving.isolation.probes import Customer, Probe
from studio import ids
from studio.db.isolation import IsolationCertificate, SigningKey
from studio.signing import Signer

Result = Literal["passed", "incomplete", "failed"]
FORMAT = "studio-isolation-certificate/1"


@dataclass(frozen=True, slots=True)
class Night:
    """One run of the probes among the canaries."""

    began_at: datetime
    probes: Sequence[Probe]
    versions: dict[str, str]


def result_of(probes: Iterable[Probe]) -> Result:
    """Of all of them together."""
    results = {probe.result for probe in probes}
    return "failed" if "failed" in results else "incomplete" if "skipped" in results else "passed"


def document_of(
    id: UUID, customer: Customer, night: Night, own: Sequence[Probe], ended_at: datetime, key_id: str
) -> dict[str, Any]:
    """The report in words. `canaries`: a tenant of ours against another; `yours`: a tenant of ours against this one."""
    return {
        "format": FORMAT,
        "id": ids.to_wire(ids.ISOLATION_CERTIFICATE, id),
        "tenant": {"id": ids.to_wire(ids.TENANT, customer.tenant_id), "slug": customer.slug},
        "result": result_of((*night.probes, *own)),
        "began_at": night.began_at.isoformat(),
        "ended_at": ended_at.isoformat(),
        "versions": night.versions,
        "signed_with": key_id,
        "canaries": [_probe(probe) for probe in night.probes],
        "yours": [_probe(probe) for probe in own],
    }


def issue(
    session: Session, customer: Customer, night: Night, own: Sequence[Probe], ended_at: datetime, signer: Signer
) -> Result:
    """Sign the report of one tenant and keep it."""
    id = ids.uuid7()
    document = document_of(id, customer, night, own, ended_at, signer.key_id)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    result: Result = document["result"]
    key = postgresql.insert(SigningKey).values(id=signer.key_id, public_key=signer.public_key)
    session.execute(key.on_conflict_do_nothing())
    session.execute(
        insert(IsolationCertificate).values(
            id=id,
            tenant_id=customer.tenant_id,
            result=result,
            began_at=night.began_at,
            ended_at=ended_at,
            document=text,
            signature=signer.sign(text.encode()),
            key_id=signer.key_id,
        )
    )
    return result


def _probe(probe: Probe) -> dict[str, str]:
    return asdict(probe) | {"at": probe.at.isoformat()}

"""`/v1/isolation/certificates`: the nightly reports of the caller's tenant, and the public keys to check them with."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select

from serving.identity.needs import PUBLIC
from serving.routes.caller import UsageCaller
from serving.routes.stores import TenantDatabase
from studio import ids
from studio.db.isolation import IsolationCertificate, SigningKey
from studio.db.sessions import tenant_scope, unit_of_work
from studio.errors import NotFound

router = APIRouter(tags=["isolation"])


class Certificate(BaseModel):
    """One night's report, without its words."""

    id: str
    object: Literal["isolation.certificate"]
    result: Literal["passed", "incomplete", "failed"]
    began_at: datetime
    ended_at: datetime


class SignedCertificate(Certificate):
    """The report. The signature (Ed25519, base64) is over the bytes of `document` in UTF-8, exactly as it stands."""

    document: str
    signature: str
    key_id: str


class CertificateList(BaseModel):
    """A page of them, newest first."""

    object: Literal["list"]
    data: list[Certificate]
    has_more: bool


class PublicKey(BaseModel):
    """A key that certificates or receipts were signed with, as PEM. One purpose's key signs nothing of the other."""

    id: str
    purpose: Literal["certificates", "receipts"]
    public_key: str
    created_at: datetime


class PublicKeys(BaseModel):
    """All of them, newest first."""

    object: Literal["list"]
    data: list[PublicKey]


@router.get("/v1/isolation/certificates")
def list_certificates(
    caller: UsageCaller,
    database: TenantDatabase,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
) -> CertificateList:
    """The tenant's reports; `after` is the last id of the page before."""
    query = select(IsolationCertificate).where(IsolationCertificate.tenant_id == caller.tenant_id)
    if after is not None:
        query = query.where(IsolationCertificate.id < _id(after))
    with tenant_scope(database, caller.tenant_id) as session:
        rows = session.scalars(query.order_by(IsolationCertificate.id.desc()).limit(limit + 1)).all()
    data = [Certificate(**_outline(row)) for row in rows[:limit]]
    return CertificateList(object="list", data=data, has_more=len(rows) > limit)


@router.get("/v1/isolation/certificates/{certificate_id}")
def retrieve_certificate(certificate_id: str, caller: UsageCaller, database: TenantDatabase) -> SignedCertificate:
    """One report with its signature."""
    mine = (IsolationCertificate.tenant_id == caller.tenant_id, IsolationCertificate.id == _id(certificate_id))
    with tenant_scope(database, caller.tenant_id) as session:
        row = session.scalar(select(IsolationCertificate).where(*mine))
    if row is None:
        raise _not_found(certificate_id)
    signature = base64.b64encode(row.signature).decode()
    return SignedCertificate(**_outline(row), document=row.document, signature=signature, key_id=row.key_id)


@router.get("/.well-known/studio-signing-keys", dependencies=[PUBLIC])
def list_signing_keys(database: TenantDatabase) -> PublicKeys:
    """The public keys of certificates and receipts.

    Keep the one that you trust: who can replace a report can replace this list.
    """
    with unit_of_work(database) as session:
        rows = session.scalars(select(SigningKey).order_by(SigningKey.created_at.desc())).all()
    keys = [
        PublicKey(id=row.id, purpose=row.purpose, public_key=row.public_key, created_at=row.created_at) for row in rows
    ]
    return PublicKeys(object="list", data=keys)


def _outline(row: IsolationCertificate) -> dict[str, object]:
    return {
        "id": ids.to_wire(ids.ISOLATION_CERTIFICATE, row.id),
        "object": "isolation.certificate",
        "result": row.result,
        "began_at": row.began_at,
        "ended_at": row.ended_at,
    }


def _id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.ISOLATION_CERTIFICATE, text)
    except ValueError as error:
        raise _not_found(text) from error


def _not_found(text: str) -> NotFound:
    return NotFound(f"There is no certificate `{text}`.")

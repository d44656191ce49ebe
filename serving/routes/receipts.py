"""`/v1/receipts/{request_id}`: what one request of the caller's tenant came to, signed. Keys: `isolation.py`."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Engine, text

from billing import receipt
from serving.routes.caller import UsageCaller
from serving.routes.stores import TenantDatabase
from studio import ids
from studio.db.sessions import tenant_scope, unit_of_work
from studio.errors import NotFound
from studio.settings import settings
from studio.signing import Signer

router = APIRouter(tags=["usage"])
_REQUEST = "req_"


class Receipt(BaseModel):
    """The receipt. The signature (Ed25519, base64) is over the bytes of `document` in UTF-8, exactly as it stands."""

    id: str
    object: Literal["receipt"]
    charged: bool
    currency: str | None
    amount: str  # exact, net
    document: str
    signature: str
    key_id: str


@router.get("/v1/receipts/{request_id}")
def retrieve_receipt(request_id: str, caller: UsageCaller, database: TenantDatabase) -> Receipt:
    """What a request used and costs. `request_id`: the answer's `x-request-id`, or that of a line of a batch's output.

    404 also for a request that was refused: it used nothing and is never charged. Usage is here seconds after it ends.
    """
    signer = receipt_signer(database)
    with tenant_scope(database, caller.tenant_id) as session:
        document = receipt.document_of(session, caller.tenant_id, _id(request_id), signer.key_id)
    if document is None:
        raise _not_found(request_id)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return Receipt(
        id=request_id,
        object="receipt",
        charged=document["charged"],
        currency=document["currency"],
        amount=document["amount"],
        document=text,
        signature=base64.b64encode(signer.sign(text.encode())).decode(),
        key_id=signer.key_id,
    )


@cache
def receipt_signer(database: Engine) -> Signer:
    """Of receipts and quotes; its public key is among those that everybody can fetch."""
    signer = Signer.of_receipts(settings())
    with unit_of_work(database) as session:
        session.execute(_PUBLISH, {"id": signer.key_id, "pem": signer.public_key})
    return signer


def _id(request_id: str) -> UUID:
    try:
        id = ids.from_wire(_REQUEST, request_id)
        ids.instant_of(id)  # which another kind of id may hold beyond the calendar's end
        return id
    except (ValueError, OverflowError) as error:
        raise _not_found(request_id) from error


def _not_found(request_id: str) -> NotFound:
    return NotFound(
        f"No usage is known of the request `{request_id[:80]}`. A request that was refused used nothing and is never"
        " charged.",
        way_out="Give the value of `x-request-id`; of a request that has just ended, ask again in some seconds.",
    )


_PUBLISH = text("select publish_receipt_key(:id, :pem)")

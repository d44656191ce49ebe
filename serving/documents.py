"""Handing out stored documents of invoices and corrections, to tenants and operators alike."""

from __future__ import annotations

from fastapi import Response

from billing.documents.kinds import FORMS, Kind
from studio.db.corrections import CorrectionDocument
from studio.db.invoices import InvoiceDocument
from studio.errors import NotFound
from studio.objects import Bucket, ObjectStore


def download(
    store: ObjectStore, row: InvoiceDocument | CorrectionDocument | None, number: str | None, kind: Kind
) -> Response:
    """The stored bytes with a name; NotFound where there are none."""
    body = store.get(Bucket.INVOICES, row.object_key) if row else None
    if body is None or number is None:
        raise NotFound(
            f"there is no document yet, or none of the format {kind}",
            way_out="A final invoice has its documents within minutes; ask again then, or for another format.",
        )
    form = FORMS[kind]
    headers = {"content-disposition": f'attachment; filename="{number}.{form.suffix}"'}
    return Response(body, media_type=form.media_type, headers=headers)

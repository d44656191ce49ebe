"""`/v1/idempotency-keys`: the caller's way to have a kept answer deleted before its 24 hours are over."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from serving.routes.caller import InferenceCaller
from studio.errors import NotFound

router = APIRouter(prefix="/v1/idempotency-keys", tags=["tokens"])


class DeletedAnswer(BaseModel):
    """In the manner of OpenAI's deletions."""

    id: str
    object: Literal["idempotency_key"]
    deleted: Literal[True]


@router.delete("/{key}")
def delete_kept_answer(key: str, request: Request, caller: InferenceCaller) -> DeletedAnswer:
    """Delete the answer that is kept for a key of this API key. The next request with it runs anew."""
    if not request.app.state.idempotency.forget(caller, key):
        raise NotFound(
            "No answer is kept for this Idempotency-Key.",
            way_out="Name a key that this API key has sent in the last 24 hours.",
            param="key",
        )
    return DeletedAnswer(id=key, object="idempotency_key", deleted=True)

"""`/v1/responses/{id}`: responses that are kept, in OpenAI's shapes. `serving/responses/endpoint.py` creates them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from serving.responses.endpoint import from_store
from serving.responses.store import ResponseStore
from serving.routes.caller import InferenceCaller
from studio.errors import InvalidRequest, NotFound

router = APIRouter(prefix="/v1/responses", tags=["responses"])


def _store(request: Request) -> ResponseStore:
    store: ResponseStore = request.app.state.responses
    return store


Responses = Annotated[ResponseStore, Depends(_store)]


class DeletedResponse(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemList(BaseModel):
    """OpenAI's page of items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.get("/{response_id}")
async def retrieve_response(
    response_id: str, caller: InferenceCaller, responses: Responses, stream: bool = False
) -> dict[str, Any]:
    """One response, as far as it is."""
    if stream:
        raise InvalidRequest("A stored response is not streamed again: ask for it without `stream`.", param="stream")
    return (await from_store(responses.find, caller.tenant_id, response_id)).response


@router.delete("/{response_id}")
async def delete_response(response_id: str, caller: InferenceCaller, responses: Responses) -> DeletedResponse:
    """Delete a response for good. If it runs it is ended; what continues it has lost its beginning."""
    await from_store(responses.delete, caller, response_id)
    return DeletedResponse(id=response_id, object="response", deleted=True)


@router.post("/{response_id}/cancel")
async def cancel_response(response_id: str, caller: InferenceCaller, responses: Responses) -> dict[str, Any]:
    """End a response that runs in the background. What the engine produced until then is billed."""
    return (await from_store(responses.cancel, caller, response_id)).response


@router.get("/{response_id}/input_items")
async def list_input_items(
    response_id: str,
    caller: InferenceCaller,
    responses: Responses,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> ItemList:
    """What a response answers, with the conversation that it continues; the newest first."""
    items = await from_store(responses.input_items, caller.tenant_id, response_id)
    if order == "desc":
        items.reverse()
    if after is not None:
        place = next((number for number, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise NotFound(f"No such item: {after}", param="after")
        items = items[place + 1 :]
    page = items[:limit]
    return ItemList(
        object="list",
        data=page,
        first_id=page[0]["id"] if page else None,
        last_id=page[-1]["id"] if page else None,
        has_more=len(items) > limit,
    )

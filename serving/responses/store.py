"""Responses that are kept: sealed rows, one tenant at a time. All of it waits for the database: call it in a thread.

A conversation is a chain of rows, each with its own input and output only. So content stands in one place, and deleting
a response deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, Select, case, delete, func, insert, literal, select, text, update
from sqlalchemy.orm import Session

from serving.keys import KeyRecord
from serving.responses import items as items_of
from serving.responses.answer import Response
from serving.responses.items import Item
from studio import clock, ids
from studio.db.responses import StoredResponse
from studio.db.sessions import tenant_scope, unit_of_work
from studio.errors import InvalidRequest, NotFound
from studio.sealing import Unreadable, seal
from studio.tenants import audit_own

RETENTION = timedelta(days=30)  # OpenAI's
RUNNING = ("queued", "in_progress")
CONTINUABLE = ("completed", "incomplete")
LONGEST_CHAIN = 1_000  # responses

_INTERRUPTED = {
    "code": "server_error",
    "message": "The gateway that ran this response ended before it was complete. Please send it again.",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A response and what it answers."""

    id: UUID
    input: list[Item]
    response: Response
    previous_response_id: UUID | None


class ResponseStore:
    """All of them, in one database."""

    def __init__(self, database: Engine, most_bytes: int) -> None:
        self._database = database
        self._most_bytes = most_bytes  # of one conversation

    def add(self, caller: KeyRecord, kept: Kept) -> None:
        """A new response, whole or only begun."""
        now = clock.now()
        values = {
            "id": kept.id,
            "tenant_id": caller.tenant_id,
            "api_key_id": caller.id,
            "model": kept.response["model"],
            "status": kept.response["status"],
            "background": kept.response["background"],
            "previous_response_id": kept.previous_response_id,
            "created_at": ids.instant_of(kept.id),
            "expires_at": now + RETENTION,
            "heard_at": now if kept.response["status"] in RUNNING else None,
            "content": _close(caller.tenant_id, kept),
        }
        with tenant_scope(self._database, caller.tenant_id) as session:
            session.execute(insert(StoredResponse).values(**values))

    def begin(self, tenant_id: UUID, response_id: UUID) -> None:
        """An engine is about to be asked."""
        with tenant_scope(self._database, tenant_id) as session:
            session.execute(
                update(StoredResponse)
                .where(StoredResponse.id == response_id, StoredResponse.status == "queued")
                .values(status="in_progress")
            )

    def end(self, tenant_id: UUID, kept: Kept) -> None:
        """What became of a response that was begun. One that was cancelled stays so, with what it has; one that was
        deleted stays deleted."""
        with tenant_scope(self._database, tenant_id) as session:
            session.execute(
                update(StoredResponse)
                .where(StoredResponse.id == kept.id, StoredResponse.status.in_((*RUNNING, "cancelled")))
                .values(
                    status=case((StoredResponse.status == "cancelled", "cancelled"), else_=kept.response["status"]),
                    content=_close(tenant_id, kept),
                )
            )

    def still_wanted(self, running: Iterable[UUID]) -> frozenset[UUID]:
        """Of the responses that this gateway runs, those that nobody has cancelled or deleted. Says that it lives."""
        with unit_of_work(self._database) as session:
            statement = text("select beat_responses(:running)")
            return frozenset(session.scalars(statement, {"running": list(running)}))

    def find(self, tenant_id: UUID, response_id: str) -> Kept:
        """One response; NotFound whatever is wrong with its id."""
        with tenant_scope(self._database, tenant_id) as session:
            return _kept(_one(session, tenant_id, response_id))

    def withdraw(self, tenant_id: UUID, response_id: UUID) -> None:
        """Take back what `add` may have written. No deletion by the caller, who never heard that it was kept."""
        with tenant_scope(self._database, tenant_id) as session:
            session.execute(delete(StoredResponse).where(StoredResponse.id == response_id))

    def delete(self, caller: KeyRecord, response_id: str) -> None:
        """Gone for good. If it runs, it is ended."""
        with tenant_scope(self._database, caller.tenant_id) as session:
            row = _one(session, caller.tenant_id, response_id)
            session.execute(delete(StoredResponse).where(StoredResponse.id == row.id))
            audit_own(session, caller.actor, "response.delete", response_id)

    def cancel(self, caller: KeyRecord, response_id: str) -> Kept:
        """End a response that runs in the background; its gateway notices within a second. Others stay as they are."""
        with tenant_scope(self._database, caller.tenant_id) as session:
            row = _one(session, caller.tenant_id, response_id)
            if not row.background:
                raise InvalidRequest(
                    "Only a response with `background: true` can be cancelled; another one ends with its connection.",
                    param="id",
                )
            ended = session.scalars(
                update(StoredResponse)
                .where(StoredResponse.id == row.id, StoredResponse.status.in_(RUNNING))
                .values(status="cancelled")
                .returning(StoredResponse.id)
            ).all()
            if ended:
                audit_own(session, caller.actor, "response.cancel", response_id)
            session.refresh(row)
            return _kept(row)

    def conversation(self, tenant_id: UUID, response_id: str) -> list[Item]:
        """All items up to a response and with it, for the one that continues it."""
        not_found = InvalidRequest(
            f"Previous response with id '{response_id}' not found: it does not exist, was not stored, was deleted or"
            " has expired. Send the conversation as `input` instead.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
        with tenant_scope(self._database, tenant_id) as session:
            try:
                last = _one(session, tenant_id, response_id)
            except NotFound as error:
                raise not_found from error
            if last.status not in CONTINUABLE:
                raise InvalidRequest(
                    f"The response {response_id} is {last.status}, so it cannot be continued.",
                    param="previous_response_id",
                )
            chain = self._chain(session, tenant_id, last)
        if len(chain) > LONGEST_CHAIN:
            raise InvalidRequest(
                f"The conversation is longer than {LONGEST_CHAIN:,} responses, so it cannot be continued. Send what"
                " matters of it as `input` instead.",
                param="previous_response_id",
            )
        if chain[0].previous_response_id is not None:
            raise not_found
        return [item for kept in chain for item in (*kept.input, *kept.response["output"])]

    def input_items(self, tenant_id: UUID, response_id: str) -> list[Item]:
        """What a response answers, the oldest first: as far back as it is still there."""
        with tenant_scope(self._database, tenant_id) as session:
            *before, last = self._chain(session, tenant_id, _one(session, tenant_id, response_id))
        earlier = [item for kept in before for item in (*kept.input, *kept.response["output"])]
        return [*earlier, *last.input]

    def resolve(self, tenant_id: UUID, items: Sequence[Item]) -> list[Item]:
        """The same items, with each reference replaced by what it refers to."""
        wanted = {items_of.response_of(item["id"]) for item in items if item["type"] == "item_reference"}
        if not wanted:
            return list(items)
        query = _visible(tenant_id).where(StoredResponse.id.in_([id for id in wanted if id is not None]))
        with tenant_scope(self._database, tenant_id) as session:
            found = [_kept(row) for row in session.scalars(query)]
        known = {item["id"]: item for kept in found for item in (*kept.input, *kept.response["output"])}
        return [known.get(item["id"]) or _lost(item) if item["type"] == "item_reference" else item for item in items]

    def _chain(self, session: Session, tenant_id: UUID, last: StoredResponse) -> list[Kept]:
        """The rows that lead to `last`, the oldest first."""
        links = select(StoredResponse.previous_response_id, literal(1).label("depth")).where(
            StoredResponse.id == last.id
        )
        chain = links.cte("chain", recursive=True)
        chain = chain.union_all(
            select(StoredResponse.previous_response_id, chain.c.depth + 1)
            .join(chain, StoredResponse.id == chain.c.previous_response_id)
            .where(chain.c.depth < LONGEST_CHAIN)
        )
        earlier = _visible(tenant_id).where(StoredResponse.id.in_(select(chain.c.previous_response_id)))
        sizes = earlier.with_only_columns(func.coalesce(func.sum(func.octet_length(StoredResponse.content)), 0))
        if session.scalars(sizes.order_by(None)).one() > self._most_bytes:
            raise InvalidRequest("The conversation is too long to be continued.", param="previous_response_id")
        rows = {row.id: row for row in session.scalars(earlier)}
        found = [last]
        while (previous := found[0].previous_response_id) is not None and previous in rows:
            found.insert(0, rows[previous])
        return [_kept(row) for row in found]


def _visible(tenant_id: UUID) -> Select[StoredResponse]:
    return select(StoredResponse).where(StoredResponse.tenant_id == tenant_id, StoredResponse.expires_at > clock.now())


def _one(session: Session, tenant_id: UUID, response_id: str) -> StoredResponse:
    not_found = NotFound(f"Response with id '{response_id}' not found.", param="id")
    try:
        id = ids.from_wire(ids.RESPONSE, response_id)
    except ValueError as error:
        raise not_found from error
    row = session.scalars(_visible(tenant_id).where(StoredResponse.id == id)).one_or_none()
    if row is None:
        raise not_found
    return row


def _lost(item: Item) -> Item:
    raise InvalidRequest(
        f"Item with id '{item['id']}' not found: its response was not stored, was deleted or has expired. Send the item"
        " itself.",
        param="input",
    )


def _context(response_id: UUID) -> bytes:
    return b"response " + response_id.bytes


def _close(tenant_id: UUID, kept: Kept) -> bytes:
    return seal().close(tenant_id, _context(kept.id), orjson.dumps({"input": kept.input, "response": kept.response}))


def _kept(row: StoredResponse) -> Kept:
    """The row knows better than its content how far it is: others may cancel or fail it, who cannot write content."""
    try:
        content: dict[str, Any] = orjson.loads(seal().open(row.tenant_id, _context(row.id), row.content))
    except Unreadable as error:
        raise NotFound(
            "The response can no longer be read: the secret that it was sealed with has changed.",
            way_out="Send the conversation as `input`.",
            param="id",
        ) from error
    response = content["response"]
    response["status"] = row.status
    if row.status == "failed":
        response["error"] = response["error"] or _INTERRUPTED
    if row.status == "cancelled":
        response |= {"error": None, "incomplete_details": None, "completed_at": None}
    return Kept(row.id, content["input"], response, row.previous_response_id)

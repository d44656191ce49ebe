"""Who runs a request and what its answer was. Every function blocks: call them in a thread.

A claim belongs to one run of a request, by a token of its own. A run that was slow for so long that its claim went to
another, of the same gateway even, can change nothing any more. Leases are by the database's clock: gateways compare
theirs with nobody's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import ColumnElement, Engine, case, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from serving.keys import KeyRecord
from studio.db.idempotency import IdempotentAnswer
from studio.db.sessions import tenant_scope, unit_of_work
from studio.sealing import Seal
from studio.tenants import audit_own

KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=30)


class KeptAnswer(msgspec.Struct, array_like=True, frozen=True):
    """An answer as it went out. Status 0: it went out, but it is not kept."""

    status: int
    content_type: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One key of one caller, and what it stands for."""

    caller: KeyRecord
    key_hash: bytes
    request_hash: bytes

    @classmethod
    def of(cls, caller: KeyRecord, key: str, path: str, body: bytes) -> Request:
        """`key` is the header's value."""
        return cls(caller, hash_of(key), hashlib.sha256(path.encode() + b"\0" + body).digest())


def hash_of(key: str) -> bytes:
    """How a key is looked up."""
    return hashlib.sha256(key.encode()).digest()


@dataclass(frozen=True, slots=True)
class Mine:
    """The caller runs it, under this id."""

    request_id: UUID
    claim_id: UUID


@dataclass(frozen=True, slots=True)
class Running:
    """Another request with this key is being run."""


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """The key stands for something else."""


Claim = Mine | Running | OtherRequest | KeptAnswer


class Store:
    """The table."""

    def __init__(self, database: Engine, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def claim(self, request: Request, request_id: UUID) -> Claim:
        """Run it under `request_id`, unless somebody runs it or has run it. A dead gateway's request is taken over with
        its id: should the dead one have billed it after all, the two events quarantine each other, and nobody pays."""
        row, claim_id = IdempotentAnswer, uuid4()
        with tenant_scope(self._database, request.caller.tenant_id) as session:
            fresh = insert(row).values(
                api_key_id=request.caller.id,
                key_hash=request.key_hash,
                tenant_id=request.caller.tenant_id,
                request_hash=request.request_hash,
                request_id=request_id,
                claim_id=claim_id,
                lease_until=func.now() + LEASE,
                expires_at=func.now() + KEPT,
            )
            # What is over or was never finished gives way; everything else stays, and is looked at.
            taken_over = fresh.on_conflict_do_update(
                index_elements=(row.api_key_id, row.key_hash),
                set_={
                    "request_id": case((row.expires_at <= func.now(), fresh.excluded.request_id), else_=row.request_id),
                    "request_hash": fresh.excluded.request_hash,
                    "claim_id": fresh.excluded.claim_id,
                    "lease_until": fresh.excluded.lease_until,
                    "expires_at": fresh.excluded.expires_at,
                    "content": None,
                },
                where=(row.expires_at <= func.now())
                | (
                    row.content.is_(None) & (row.lease_until <= func.now()) & (row.request_hash == request.request_hash)
                ),
            ).returning(row.request_id)
            if (run_as := session.execute(taken_over).scalar_one_or_none()) is not None:
                return Mine(run_as, claim_id)
            kept = session.execute(
                select(row.request_hash, row.content).where(
                    row.api_key_id == request.caller.id, row.key_hash == request.key_hash
                )
            ).one_or_none()
        if kept is None:
            return Running()  # it has just been given up: the next claim takes it
        if kept.request_hash != request.request_hash:
            return OtherRequest()
        if kept.content is None:
            return Running()
        sealed = self._seal.open(request.caller.tenant_id, _context(request), kept.content)
        return msgspec.msgpack.decode(sealed, type=KeptAnswer)

    def renew(self, request: Request, mine: Mine) -> bool:
        """Still running. False when it is somebody else's by now."""
        return self._change(request, mine, lease_until=func.now() + LEASE)

    def keep(self, request: Request, mine: Mine, answer: KeptAnswer) -> bool:
        """It is answered. False when it is somebody else's by now, whose answer will be kept."""
        sealed = self._seal.close(request.caller.tenant_id, _context(request), msgspec.msgpack.encode(answer))
        return self._change(request, mine, content=sealed, claim_id=None)

    def give_up(self, request: Request, mine: Mine) -> None:
        """It was refused or broke off: the same key may try again."""
        with tenant_scope(self._database, request.caller.tenant_id) as session:
            session.execute(delete(IdempotentAnswer).where(_is(request, mine)))

    def forget(self, caller: KeyRecord, key: str) -> bool:
        """Delete what is kept; False when there is nothing."""
        with tenant_scope(self._database, caller.tenant_id) as session:
            gone = session.scalars(
                delete(IdempotentAnswer)
                .where(
                    IdempotentAnswer.api_key_id == caller.id,
                    IdempotentAnswer.key_hash == hash_of(key),
                    IdempotentAnswer.content.is_not(None),
                )
                .returning(IdempotentAnswer.request_id)
            ).all()
            if gone:
                audit_own(session, caller.actor, "idempotent_answer.delete", hash_of(key).hex())
        return bool(gone)

    def forget_expired(self) -> None:
        """Of all tenants."""
        with unit_of_work(self._database) as session:
            session.execute(text("select forget_idempotent_answers()"))

    def _change(self, request: Request, mine: Mine, **values: object) -> bool:
        statement = update(IdempotentAnswer).where(_is(request, mine)).values(values)
        with tenant_scope(self._database, request.caller.tenant_id) as session:
            return session.execute(statement.returning(IdempotentAnswer.request_id)).one_or_none() is not None


def _is(request: Request, mine: Mine) -> ColumnElement[bool]:
    return (
        (IdempotentAnswer.api_key_id == request.caller.id)
        & (IdempotentAnswer.key_hash == request.key_hash)
        & (IdempotentAnswer.claim_id == mine.claim_id)
    )


def _context(request: Request) -> bytes:
    return b"idempotency" + request.caller.id.bytes + request.key_hash

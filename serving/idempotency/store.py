"""Who runs a request and what its answer was. Every function blocks: call them in a thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Engine, case, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

from serving.keys import KeyRecord
from studio import clock
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
    """This gateway runs it, under this id."""

    request_id: UUID


@dataclass(frozen=True, slots=True)
class Running:
    """Another request with this key is being run."""


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """The key stands for something else."""


Claim = Mine | Running | OtherRequest | KeptAnswer


class Store:
    """The table, as one gateway sees it."""

    def __init__(self, database: Engine, seal: Seal, gateway_id: UUID) -> None:
        self._database = database
        self._seal = seal
        self._gateway_id = gateway_id

    def claim(self, request: Request, request_id: UUID) -> Claim:
        """Run it under `request_id`, unless somebody runs it or has run it. A dead gateway's request is taken over with
        its id: should the dead one have billed it after all, the two events quarantine each other, and nobody pays."""
        now = clock.now()
        row = IdempotentAnswer
        with tenant_scope(self._database, request.caller.tenant_id) as session:
            fresh = insert(row).values(
                api_key_id=request.caller.id,
                key_hash=request.key_hash,
                tenant_id=request.caller.tenant_id,
                request_hash=request.request_hash,
                request_id=request_id,
                runs_at=self._gateway_id,
                lease_until=now + LEASE,
                expires_at=now + KEPT,
            )
            # What is over or was never finished gives way; everything else stays, and is looked at.
            taken_over = fresh.on_conflict_do_update(
                index_elements=(row.api_key_id, row.key_hash),
                set_={
                    "request_id": case((row.expires_at <= now, fresh.excluded.request_id), else_=row.request_id),
                    "request_hash": fresh.excluded.request_hash,
                    "runs_at": fresh.excluded.runs_at,
                    "lease_until": fresh.excluded.lease_until,
                    "expires_at": fresh.excluded.expires_at,
                    "content": None,
                },
                where=(row.expires_at <= now)
                | (row.content.is_(None) & (row.lease_until <= now) & (row.request_hash == request.request_hash)),
            ).returning(row.request_id)
            if (mine := session.execute(taken_over).scalar_one_or_none()) is not None:
                return Mine(mine)
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

    def renew(self, request: Request) -> None:
        """Still running."""
        self._change(request, lease_until=clock.now() + LEASE)

    def keep(self, request: Request, answer: KeptAnswer) -> None:
        """It is answered."""
        sealed = self._seal.close(request.caller.tenant_id, _context(request), msgspec.msgpack.encode(answer))
        self._change(request, content=sealed, runs_at=None)

    def give_up(self, request: Request) -> None:
        """It was refused or broke off: the same key may try again."""
        with tenant_scope(self._database, request.caller.tenant_id) as session:
            session.execute(
                delete(IdempotentAnswer).where(
                    IdempotentAnswer.api_key_id == request.caller.id,
                    IdempotentAnswer.key_hash == request.key_hash,
                    IdempotentAnswer.runs_at == self._gateway_id,
                )
            )

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

    def _change(self, request: Request, **values: object) -> None:
        with tenant_scope(self._database, request.caller.tenant_id) as session:
            session.execute(
                update(IdempotentAnswer)
                .where(
                    IdempotentAnswer.api_key_id == request.caller.id,
                    IdempotentAnswer.key_hash == request.key_hash,
                    IdempotentAnswer.runs_at == self._gateway_id,
                )
                .values(values)
            )


def _context(request: Request) -> bytes:
    return b"idempotency" + request.caller.id.bytes + request.key_hash

"""The world of the money tests: a tenant, a gateway that ships usage through the real door, an engine that counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, insert, select, text, update
from sqlalchemy.orm import Session

from assets.catalog import CatalogFiles
from billing import approval, draft, finalize, invoice_requests, rated_lines, reconcile, review, usage, windows
from billing.windows import Seal, SealKey
from studio import ids, tenants, training_usage
from studio.catalog.sync import sync_catalog
from studio.db.catalog import ModelVariant
from studio.db.fleet import EngineCounters, Replica
from studio.db.invoices import Invoice
from studio.db.sessions import engine_for, unit_of_work
from studio.db.usage import UsageSource, UsageStaging
from studio.money import Currency
from studio.settings import DatabaseRole
from tests.server import TestDatabase

CATALOG = CatalogFiles(Path(__file__).parent / "catalog", "test")
CHAT = "chat"
BUYER = {"name": "Kunde AG", "street": "Weg 2", "city": "20095 Hamburg", "country": "DE", "vat_id": "DE111111111"}


@dataclass
class Gateway:
    """One run of a metering process: numbers its events without a gap and ships them."""

    books: Books
    id: UUID = field(default_factory=ids.uuid7)
    seq: int = 0

    def uses(self, tenant_id: UUID, at: datetime, **tokens: Any) -> UUID:
        """Meter one request and ship it at once; the event's id."""
        self.seq += 1
        event = self.books.event(tenant_id, at, **tokens) | {"source_id": self.id, "source_seq": self.seq}
        shipment = ids.uuid7()
        with self.books.as_role("shipper") as session:
            session.execute(insert(UsageStaging).values(shipment_id=shipment, row=1, **event))
            session.execute(text("select accept_usage(:shipment)"), {"shipment": shipment})
        return UUID(str(event["id"]))

    def reports(self, at: datetime, pending: int = 0) -> None:
        """Heartbeat."""
        with self.books.as_role("shipper") as session:
            session.execute(
                update(UsageSource).where(UsageSource.id == self.id).values(heartbeat_at=at, pending=pending)
            )


@dataclass
class Books:
    """Builds and drives the chain over one database; every step in the role that does it in production."""

    database: TestDatabase
    engines: dict[DatabaseRole, Engine] = field(default_factory=dict)
    evenings: int = 0
    replica_id: UUID = field(default_factory=ids.uuid7)
    engine_tokens: dict[str, int] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0})

    @contextmanager
    def as_role(self, role: DatabaseRole) -> Iterator[Session]:
        """A unit of work of a role."""
        if role not in self.engines:
            self.engines[role] = engine_for(self.database.url(role))
        with unit_of_work(self.engines[role]) as session:
            yield session

    @contextmanager
    def forging(self) -> Iterator[Session]:
        """As the owner of the tables, with all triggers switched off. Nothing of it stays."""
        connection = self.database.superuser()
        connection.autocommit = False
        engine = create_engine("postgresql+psycopg://", creator=lambda: connection)
        with Session(engine) as session:
            session.execute(text("set local session_replication_role = replica"))
            yield session
            session.rollback()
        engine.dispose()

    def close(self) -> None:
        """Close all connections."""
        for engine in self.engines.values():
            engine.dispose()

    def open(self) -> None:
        """Synchronise the tests' own catalog and start one engine."""
        with self.as_role("worker") as session:
            sync_catalog(session, CATALOG.folder, CATALOG.site)
        with self.as_role("node_agent") as session:
            session.execute(
                insert(Replica).values(
                    id=self.replica_id, variant_id=CHAT, kind="process", state="ready", url="http://127.0.0.1:1",
                    engine_model=CHAT, created_at=datetime(2026, 1, 1, tzinfo=UTC),
                )
            )  # fmt: skip

    def tenant(self, slug: str = "kunde", time_zone: str = "Europe/Berlin") -> UUID:
        """A EUR tenant of the German entity."""
        billing = tenants.Billing("xpulink-de", Currency.EUR, time_zone, BUYER, date(2026, 1, 1))
        with self.as_role("operator") as session:
            return tenants.create_tenant(session, slug, "Kunde AG", billing, "test")

    def gateway(self) -> Gateway:
        """A gateway that has just registered."""
        gateway = Gateway(self)
        born = datetime(2026, 1, 1, tzinfo=UTC)
        with self.as_role("shipper") as session:
            session.execute(
                insert(UsageSource).values(
                    id=gateway.id, name="gateway-0", opened_at=born, last_seq=0, pending=0, heartbeat_at=born
                )
            )
        return gateway

    def event(
        self,
        tenant_id: UUID,
        at: datetime,
        *,
        prompt: int = 0,
        cached: int = 0,
        completion: int = 0,
        reused_prompt: int = 0,
        reused_completion: int = 0,
        variant: str = CHAT,
        batch_id: UUID | None = None,
        fine_tune: UUID | None = None,
        endpoint: str = "/v1/chat/completions",
        first_token_after: timedelta | None = None,
        minutes: int = 0,
    ) -> dict[str, Any]:
        """The row of one request that the engine has answered, but for what a cache gave; or of a fine-tune's job."""
        is_the_engines = (
            fine_tune is None
            and endpoint.startswith("/")
            and (prompt, completion) != (reused_prompt, reused_completion)
        )
        if is_the_engines:
            self.engine_tokens["prompt_tokens"] += prompt - reused_prompt
            self.engine_tokens["completion_tokens"] += completion - reused_completion
        with self.as_role("auditor") as session:
            row = session.execute(
                select(ModelVariant.model_id, ModelVariant.tier).where(ModelVariant.id == variant)
            ).one_or_none()
        model_id, tier = row if row is not None else (variant, "base")
        id = uuid7_at(at) if fine_tune is None else training_usage.event_id(fine_tune, at)
        path = endpoint if fine_tune is None else training_usage.ENDPOINT
        return {
            "usage_day_utc": ids.day_utc_of(id), "id": id, "tenant_id": tenant_id, "api_key_id": ids.uuid7(),
            "request_id": id.hex if fine_tune is None else ids.to_wire(ids.FINE_TUNING_JOB, fine_tune), "tag": None,
            "endpoint": path, "model_id": model_id,
            "variant_id": variant, "tier_requested": tier, "tier_served": tier,
            "replica_id": self.replica_id if is_the_engines else None,
            "started_at": at, "first_token_at": at + (first_token_after or timedelta(0)),
            "admitted_at": None if first_token_after is None else at,
            "ended_at": at + (timedelta(minutes=minutes) or timedelta(seconds=1)), "prompt_tokens": prompt,
            "cached_tokens": cached, "completion_tokens": completion, "reasoning_tokens": 0, "http_status": 200,
            "end_reason": "complete", "usage_origin": "engine",
            "batch_id": batch_id, "engine_prompt_tokens": prompt - reused_prompt if reused_prompt else None,
            "reused_prompt_tokens": reused_prompt, "reused_completion_tokens": reused_completion,
        }  # fmt: skip

    def engine_is_idle(self, at: datetime) -> None:
        """The node agent reads the engine's own counters."""
        self.engine_works(at, requests=0)

    def engine_works(self, at: datetime, requests: int) -> None:
        """The same of an engine that works on so many requests."""
        reading = {"observed_at": at, "requests": requests, **self.engine_tokens}
        with self.as_role("node_agent") as session:
            session.execute(insert(EngineCounters).values(replica_id=self.replica_id, **reading))

    def seal(self, tenant_id: UUID, day: date, role: DatabaseRole = "worker") -> Seal:
        """Seal a closed day as the calendar does."""
        cutoff = windows.closes_at(day)
        with self.as_role(role) as session:
            return windows.seal(
                session, window_day=day, tenant_id=tenant_id, by="calendar", reason="day closed", cutoff=cutoff,
                now=cutoff + timedelta(minutes=1),
            )  # fmt: skip

    def process(self, key: SealKey) -> str:
        """Count, rate and reconcile a seal; the state it ends in."""
        with self.as_role("worker") as session:
            if not usage.count(session, key).held_events:
                rated_lines.rate_seal(session, key)
                reconcile.reconcile_seal(session, key, windows.closes_at(key.window_day))
        return self.state(key)

    def state(self, key: SealKey) -> str:
        """The state of a seal."""
        with self.as_role("auditor") as session:
            return next(seal.state for seal in windows.seals(session) if seal.key == key)

    def close_day(self, gateway: Gateway, tenant_id: UUID, day: date) -> SealKey:
        """The whole evening of a day: heartbeat, idle engine, seal, count, rate, reconcile."""
        self.evenings += 1
        gateway.reports(windows.closes_at(day))
        self.engine_is_idle(windows.closes_at(day) + timedelta(hours=1, seconds=self.evenings))
        seal = self.seal(tenant_id, day)
        assert self.process(seal.key) == "reconciled"
        return seal.key

    def draft(self, tenant_id: UUID, month: date, now: datetime) -> UUID | None:
        """Ask for an invoice and draft it."""
        with self.as_role("operator") as session:
            request = invoice_requests.request_invoice(
                session, tenant_id=tenant_id, month=month, by="test", reason="test", now=now
            )
        with self.as_role("worker") as session:
            return draft.draft(session, request.id, now)

    def finalize(self, invoice_id: UUID, now: datetime) -> str:
        """Review and approve a draft at the total that it has, and carry that out; the number."""
        gross = self.invoice(invoice_id).gross
        with self.as_role("operator") as session:
            review.review(session, invoice_id=invoice_id, expected_gross=gross, by="bookkeeping", now=now)
            approved = approval.approve(session, invoice_id=invoice_id, expected_gross=gross, by="finance", now=now)
        with self.as_role("worker") as session:
            return finalize.finalize(session, approved, now)

    def final_invoice(self, gateway: Gateway, tenant_id: UUID, at: datetime, now: datetime, **tokens: Any) -> UUID:
        """One request, its day closed, its month invoiced and final."""
        gateway.uses(tenant_id, at, **tokens)
        self.close_day(gateway, tenant_id, at.date())
        invoice_id = self.draft(tenant_id, at.date().replace(day=1), now)
        assert invoice_id is not None
        self.finalize(invoice_id, now)
        return invoice_id

    def invoice(self, invoice_id: UUID) -> Invoice:
        """The row of an invoice."""
        with self.as_role("auditor") as session:
            return session.get_one(Invoice, invoice_id)

    def only_invoice(self) -> Invoice:
        """The one invoice there is."""
        with self.as_role("auditor") as session:
            return session.scalars(select(Invoice)).one()

    def daily(self, day: date) -> list[tuple[str, date, int]]:
        """What is counted of a day: unit, billing day, tokens."""
        with self.as_role("auditor") as session:
            return [(row.unit, row.billing_day, row.tokens) for row in usage.daily_tokens(session, day)]


def uuid7_at(at: datetime) -> UUID:
    """A UUIDv7 of an instant of the test's own."""
    milliseconds = int(at.timestamp() * 1000)
    random_bits = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | random_bits)

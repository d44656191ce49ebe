"""Engines and units of work for the database roles. One unit of work commits once, at the edge that opened it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session


def engine_for(
    url: str, *, pool_size: int = 5, idle_in_transaction_seconds: int = 0, statement_seconds: int = 0
) -> Engine:
    """A pooled engine. Connections are checked before use, so a restarted server costs nobody an error.

    The server ends a transaction in which nothing was asked for `idle_in_transaction_seconds` (0: never), and frees
    what it had locked. It gives a statement up that takes longer than `statement_seconds` (0: never).

    Errors do not repeat the values of a statement: they end in logs and in Dagster, and are a tenant's or a secret.
    """
    return create_engine(
        url,
        pool_pre_ping=True,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={
            "connect_timeout": 5,
            "options": "-c timezone=UTC -c lock_timeout=10s"
            f" -c idle_in_transaction_session_timeout={idle_in_transaction_seconds}s"
            f" -c statement_timeout={statement_seconds}s",
        },
    )


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """A transaction for a role that sees all tenants: committed at the end, rolled back on any exception."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def tenant_scope(engine: Engine, tenant_id: UUID) -> Iterator[Session]:
    """A transaction of the gateway role that sees one tenant's rows; row-level security enforces it again."""
    with unit_of_work(engine) as session:
        session.execute(text("select set_config('studio.tenant_id', :tenant, true)"), {"tenant": str(tenant_id)})
        yield session

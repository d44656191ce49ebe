"""The tables, one module per group of `docs/architecture.md`, and sessions for the roles that use them."""

from studio.db import (
    budgets,
    catalog,
    corrections,
    fleet,
    hours,
    idempotency,
    identity,
    invoices,
    isolation,
    jobs,
    ledger,
    limits,
    observation,
    responses,
    tenancy,
    usage,
)
from studio.db.base import Base

__all__ = [
    "Base",
    "budgets",
    "catalog",
    "corrections",
    "fleet",
    "hours",
    "idempotency",
    "identity",
    "invoices",
    "isolation",
    "jobs",
    "ledger",
    "limits",
    "observation",
    "responses",
    "tenancy",
    "usage",
]

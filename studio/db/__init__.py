"""The tables, one module per group of `docs/architecture.md`, and sessions for the roles that use them."""

from studio.db import (
    budgets,
    catalog,
    comparisons,
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
    responses,
    tenancy,
    usage,
)
from studio.db.base import Base

__all__ = [
    "Base",
    "budgets",
    "catalog",
    "comparisons",
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
    "responses",
    "tenancy",
    "usage",
]

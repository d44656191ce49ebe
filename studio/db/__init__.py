"""The tables, one module per group of `docs/architecture.md`, and sessions for the roles that use them."""

from studio.db import catalog, fleet, hours, invoices, jobs, responses, tenancy, usage
from studio.db.base import Base

__all__ = ["Base", "catalog", "fleet", "hours", "invoices", "jobs", "responses", "tenancy", "usage"]

"""Alembic's entry: migrations run as the owner role, one transaction each."""

from __future__ import annotations

from alembic import context

from studio.db import Base
from studio.db.sessions import engine_for
from studio.settings import settings


def _include_object(object: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:
    """Leave out the daily partitions of usage_events: `ensure_usage_partition` makes them, not a migration."""
    return not (type_ == "table" and name is not None and name.startswith("usage_events_"))


with engine_for(settings().database_url("owner")).connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_include_object,
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()

"""The database as the gateway's role sees it: one tenant's rows, or nothing.

Every table that has a tenant is looked at, also one that is added later.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import UUID as UUID_TYPE
from sqlalchemy import Engine, Select, column, exists, literal, select, table, text, union_all
from sqlalchemy.orm import Session

from studio.db.sessions import tenant_scope, unit_of_work


class BackDoor:
    """Reads that there are rows, never what is in them."""

    def __init__(self, gateway: Engine) -> None:
        self._gateway = gateway
        with unit_of_work(gateway) as session:
            self.tables = list(session.scalars(_TABLES_WITH_A_TENANT))

    def of_others(self, viewer: UUID) -> list[str]:
        """The tables in which a tenant sees rows that are not its own. None is the only right answer."""
        with tenant_scope(self._gateway, viewer) as session:
            return self._with_rows(session, viewer, is_own=False)

    def own(self, owner: UUID) -> list[str]:
        """The tables in which a tenant sees rows of its own."""
        with tenant_scope(self._gateway, owner) as session:
            return self._with_rows(session, owner, is_own=True)

    def seen_of(self, viewer: UUID, owner: UUID) -> list[str]:
        """The tables in which one tenant sees rows of another."""
        with tenant_scope(self._gateway, viewer) as session:
            return self._with_rows(session, owner, is_own=True)

    def without_a_tenant(self) -> list[str]:
        """The tables in which a transaction that has set no tenant sees any row."""
        with unit_of_work(self._gateway) as session:
            return self._with_rows(session, None, is_own=False)

    def _with_rows(self, session: Session, tenant_id: UUID | None, *, is_own: bool) -> list[str]:
        found = session.execute(union_all(*(_has_rows(name, tenant_id, is_own) for name in self.tables)))
        return sorted(row[0] for row in found if row[1])


def _has_rows(name: str, tenant_id: UUID | None, is_own: bool) -> Select[str, bool]:
    owner = column("tenant_id", UUID_TYPE(as_uuid=True))
    # A row without a tenant is nobody's, and for everybody: the list of prices.
    whose = owner == tenant_id if is_own else owner.is_not(None) & owner.is_distinct_from(tenant_id)
    return select(literal(name), exists(select(literal(1)).select_from(table(name, owner)).where(whose)))


_TABLES_WITH_A_TENANT = text("""
    select c.relname
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and has_column_privilege(c.oid, a.attnum, 'select')
    order by c.relname
""")

"""What a database holds, in figures that a restored copy must show again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import ledger_days


class Deviation(NamedTuple):
    """One figure of a restored copy that is not that of the backup."""

    what: str
    expected: str
    found: str


class Facts(msgspec.Struct, frozen=True):
    """Of one database at one instant. All are equal in an exact copy."""

    migration: str
    rows: dict[str, int]  # by table; a partitioned one as a whole
    last_numbers: dict[str, int]  # `legal entity/year/kind`: the newest number given
    ledger_days: int
    ledger_transactions: int
    ledger_head: str  # the newest link of the chain
    guards: dict[str, int]  # triggers, policies and grants: without them the copy would take what the original refuses


def read_facts(session: Session, kept_links: Mapping[date, str]) -> tuple[Facts, str | None]:
    """The figures, and why the chain of the ledger is broken, if it is. `kept_links`: the copy outside the database."""
    ledger = ledger_days.verify(session, kept_links)
    tables = session.scalars(_TABLES).all()
    numbers = session.execute(_NUMBERS).tuples()
    facts = Facts(
        migration=session.execute(text("select version_num from alembic_version")).scalar_one(),
        rows={table: session.execute(text(f'select count(*) from "{table}"')).scalar_one() for table in tables},  # noqa: S608  # names of our own tables
        last_numbers={f"{entity}/{year}/{kind}": last for entity, year, kind, last in numbers},
        ledger_days=ledger.days,
        ledger_transactions=ledger.transactions,
        ledger_head=ledger.head,
        guards=dict(session.execute(_GUARDS).tuples().all()),
    )
    return facts, None if ledger.broken is None else f"{ledger.broken.day}: {ledger.broken.why}"


def deviations(expected: Facts, found: Facts) -> list[Deviation]:
    """Every figure that differs."""
    of_expected, of_found = (dict(_flat(msgspec.to_builtins(facts))) for facts in (expected, found))
    return [
        Deviation(name, of_expected.get(name, "absent"), of_found.get(name, "absent"))
        for name in sorted(of_expected.keys() | of_found.keys())
        if of_expected.get(name) != of_found.get(name)
    ]


def _flat(values: Mapping[str, object], at: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in values.items():
        flat += _flat(value, f"{at}{name}.") if isinstance(value, Mapping) else [(f"{at}{name}", str(value))]
    return flat


_TABLES = text("""
    select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
    order by c.relname
""")
_NUMBERS = text("select legal_entity_id, year, kind, last from number_series order by 1, 2, 3")
_GUARDS = text("""
    select 'triggers', count(*)::int from pg_trigger where not tgisinternal
    union all select 'policies', count(*)::int from pg_policies where schemaname = 'public'
    union all select 'tables under row level security', count(*)::int from pg_class where relrowsecurity
    union all select 'grants', count(*)::int from information_schema.role_table_grants
        where table_schema = 'public' and grantee like 'studio_%'
    union all select 'functions', count(*)::int from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = 'public'
""")

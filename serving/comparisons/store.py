"""Comparisons in the database, one tenant at a time. All of it waits for the database: call it in a thread."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from uuid import UUID

from sqlalchemy import Engine, delete, func, insert, select, update

from serving.comparisons.blind import LETTERS, Alias
from serving.keys import KeyRecord
from studio import clock, ids
from studio.db.comparisons import Comparison
from studio.db.sessions import tenant_scope
from studio.errors import Conflict, ModelNotFound, NotFound
from studio.tenants import audit_own

LIFETIME = timedelta(hours=24)  # of aliases

_lot = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class PairTally:
    """What the votes say of two models. A vote for one of many models counts against each of the others."""

    models: tuple[str, str]
    wins: tuple[int, int]
    ties: int
    neither: int  # all were bad


def create(database: Engine, caller: KeyRecord, models: Sequence[str]) -> Comparison:
    """A comparison whose order is drawn by lot. What the tenant left without a vote and has expired is forgotten."""
    now = clock.now()
    order = _lot.sample(list(models), len(models))
    id = ids.uuid7()
    values = {
        "id": id,
        "tenant_id": caller.tenant_id,
        "api_key_id": caller.id,
        "models": order,
        "created_at": now,
        "expires_at": now + LIFETIME,
    }
    with tenant_scope(database, caller.tenant_id) as session:
        session.execute(
            delete(Comparison).where(
                Comparison.tenant_id == caller.tenant_id, Comparison.verdict.is_(None), Comparison.expires_at <= now
            )
        )
        session.execute(insert(Comparison).values(**values))
        audit_own(session, caller.actor, "comparison.create", ids.to_wire(ids.COMPARISON, id))
    return Comparison(**values)


def find(database: Engine, tenant_id: UUID, comparison_id: UUID) -> Comparison:
    """NotFound for one that is another tenant's, or forgotten."""
    query = select(Comparison).where(Comparison.tenant_id == tenant_id, Comparison.id == comparison_id)
    with tenant_scope(database, tenant_id) as session:
        row = session.scalars(query).one_or_none()
        if row is None:
            raise NotFound(f"No such comparison: {ids.to_wire(ids.COMPARISON, comparison_id)}", param="id")
        session.expunge(row)
        return row


def model_of(database: Engine, tenant_id: UUID, alias: Alias) -> str:
    """The model behind an alias. ModelNotFound, in the alias' name, when there is none or its day is over."""
    query = select(Comparison.models).where(
        Comparison.tenant_id == tenant_id, Comparison.id == alias.comparison_id, Comparison.expires_at > clock.now()
    )
    with tenant_scope(database, tenant_id) as session:
        models = session.scalar(query)
    place = LETTERS.index(alias.letter)
    if models is None or place >= len(models):
        raise ModelNotFound(alias.text)
    return models[place]


def vote(database: Engine, caller: KeyRecord, comparison_id: UUID, verdict: str) -> Comparison:
    """Once for each comparison, since the models are known after it. Conflict for a second time."""
    tenant_id = caller.tenant_id
    one = find(database, tenant_id, comparison_id)
    with tenant_scope(database, tenant_id) as session:
        voted = session.execute(
            update(Comparison)
            .where(Comparison.tenant_id == tenant_id, Comparison.id == one.id, Comparison.verdict.is_(None))
            .values(verdict=verdict, voted_at=clock.now())
            .returning(Comparison.id)
        ).all()
        if not voted:
            raise Conflict("This comparison has its vote already, and its models are known. Make another one.")
        audit_own(session, caller.actor, "comparison.vote", ids.to_wire(ids.COMPARISON, one.id))
    return find(database, tenant_id, comparison_id)


def tally(database: Engine, tenant_id: UUID) -> list[PairTally]:
    """All votes of a tenant by pairs of models, those with the most votes first."""
    query = (
        select(Comparison.models, Comparison.verdict, func.count())
        .where(Comparison.tenant_id == tenant_id, Comparison.verdict.is_not(None))
        .group_by(Comparison.models, Comparison.verdict)
    )
    with tenant_scope(database, tenant_id) as session:
        counted = [(models, verdict, count) for models, verdict, count in session.execute(query) if verdict is not None]
    return tallied(counted)


def tallied(counted: Iterable[tuple[Sequence[str], str, int]]) -> list[PairTally]:
    """Pure: (models in their order, verdict, how often) in, pairs out."""
    wins: Counter[tuple[str, str]] = Counter()  # winner, loser
    ties: Counter[tuple[str, str]] = Counter()
    neither: Counter[tuple[str, str]] = Counter()
    pairs: set[tuple[str, str]] = set()
    for models, verdict, count in counted:
        alphabetic = sorted(models)
        if verdict in LETTERS:
            winner = models[LETTERS.index(verdict)]
            for loser in models:
                if loser != winner:
                    wins[winner, loser] += count
                    pairs.add((min(winner, loser), max(winner, loser)))
        else:
            for pair in combinations(alphabetic, 2):
                (ties if verdict == "tie" else neither)[pair] += count
                pairs.add(pair)
    found = [
        PairTally((one, other), (wins[one, other], wins[other, one]), ties[one, other], neither[one, other])
        for one, other in pairs
    ]
    return sorted(found, key=lambda pair: (-sum(pair.wins) - pair.ties - pair.neither, pair.models))

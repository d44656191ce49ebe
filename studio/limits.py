"""Limits as operators set them: one row for each tenant, key and model. Code here never commits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio import ids
from studio.db.catalog import ModelVariant
from studio.db.limits import Limit
from studio.db.tenancy import ApiKey
from studio.errors import InvalidRequest, ModelNotFound, NotFound
from studio.tenants import audit

MOST_REQUESTS = 2**31 - 1
MOST_TOKENS = 100_000_000_000  # per minute; beyond, Valkey's scripts could not reckon exactly


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose limits: of a tenant as a whole or of one of its keys; of all models together or of one."""

    tenant_id: UUID
    api_key_id: UUID | None = None
    variant_id: str | None = None

    @property
    def subject(self) -> str:
        """As the audit log names it."""
        of_key = "all keys" if self.api_key_id is None else ids.to_wire(ids.API_KEY, self.api_key_id)
        return f"{of_key}, {self.variant_id or 'all models'}"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most of each. None: no limit of this kind."""

    requests_per_second: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


def set_limits(session: Session, scope: Scope, ceilings: Ceilings, actor: str) -> Limit:
    """Put these in the place of what the scope had. NotFound for another tenant's key, ModelNotFound."""
    values = asdict(ceilings)
    if all(value is None for value in values.values()):
        raise InvalidRequest(
            f"name at least one of {', '.join(values)}; to end all limits of this scope, delete them instead"
        )
    if scope.api_key_id is not None:
        owner = session.scalar(select(ApiKey.tenant_id).where(ApiKey.id == scope.api_key_id))
        if owner != scope.tenant_id:
            raise NotFound("this tenant has no key with this id", param="key")
    if scope.variant_id is not None and session.get(ModelVariant, scope.variant_id) is None:
        raise ModelNotFound(scope.variant_id)
    row = session.scalars(
        insert(Limit)
        .values(id=ids.uuid7(), **asdict(scope), **values)
        # The row keeps its id, so what has been counted against it goes on.
        .on_conflict_do_update(constraint="uq_limits_tenant_id_api_key_id_variant_id", set_=values)
        .returning(Limit)
        .execution_options(populate_existing=True)
    ).one()
    given = {name: value for name, value in values.items() if value is not None}
    audit(session, actor, "limits.set", scope.subject, scope.tenant_id, given)
    return row


def clear_limits(session: Session, scope: Scope, actor: str) -> None:
    """End all limits of the scope. NotFound when it has none."""
    cleared = session.scalar(
        delete(Limit)
        .where(
            Limit.tenant_id == scope.tenant_id,
            Limit.api_key_id.is_not_distinct_from(scope.api_key_id),
            Limit.variant_id.is_not_distinct_from(scope.variant_id),
        )
        .returning(Limit.id)
    )
    if cleared is None:
        raise NotFound(
            "there are no limits of this scope", way_out="The list of limits names the scopes that have some."
        )
    audit(session, actor, "limits.clear", scope.subject, scope.tenant_id, {})


def limits_of(session: Session, tenant_id: UUID) -> list[Limit]:
    """All limits of a tenant, those of the tenant as a whole first."""
    return list(
        session.scalars(
            select(Limit)
            .where(Limit.tenant_id == tenant_id)
            .order_by(Limit.api_key_id.asc().nulls_first(), Limit.variant_id.asc().nulls_first())
        )
    )

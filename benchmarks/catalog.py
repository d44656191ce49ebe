"""Rows of a benchmark's own catalog: tenants with their keys and money, and models whose engines run already."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from studio import api_keys, clock
from studio.db.budgets import Budget
from studio.db.catalog import Model, ModelVariant, Price
from studio.db.fleet import Replica
from studio.db.limits import Limit
from studio.db.tenancy import ApiKey, LegalEntity, Tenant, TenantBilling

CONTEXT_TOKENS = 32_768
PLENTY = 1_000_000  # a budget that is reserved from and never used up, a limit that is checked and never reached


def add_seller(session: Session) -> None:
    """Whose prices they are."""
    session.add(
        LegalEntity(
            id="benchmark",
            name="Benchmark",
            country="DE",
            currency="EUR",
            time_zone="Europe/Berlin",
            invoice_prefix="B",
            details={},
        )
    )
    session.flush()


def add_tenant(session: Session, slug: str, *, requests_per_second: int, budget: int) -> str:
    """A tenant with one key, a limit and a monthly budget in EUR; returns the key."""
    minted = api_keys.mint()
    tenant = Tenant(slug=slug, name=slug)
    session.add(tenant)
    session.flush()
    key = ApiKey(
        tenant_id=tenant.id,
        name="load",
        prefix=minted.prefix,
        secret_hash=minted.secret_hash,
        scopes=["inference"],
    )
    session.add(key)
    session.flush()
    session.add_all(_money(tenant.id, budget))
    session.add(Limit(tenant_id=tenant.id, api_key_id=key.id, requests_per_second=requests_per_second))
    return minted.text


def add_model(session: Session, name: str, urls: Sequence[str], *, task: str = "chat") -> list[UUID]:
    """A model with one replica at each URL; returns their ids."""
    session.add(_model(name, task))
    session.flush()
    session.add(_variant(name))
    session.flush()
    units = ("embedding",) if task == "embedding" else ("prompt", "cached_prompt", "completion")
    session.add_all(_price(name, unit) for unit in units)
    replicas = [_replica(name, url) for url in urls]
    session.add_all(replicas)
    session.flush()
    return [replica.id for replica in replicas]


def _money(tenant_id: UUID, budget: int) -> list[TenantBilling | Budget]:
    billing = TenantBilling(
        tenant_id=tenant_id,
        valid_from=clock.now().date() - timedelta(days=1),
        legal_entity_id="benchmark",
        currency="EUR",
        time_zone="Europe/Berlin",
        tax_category="S",
        buyer={},
    )
    return [billing, Budget(tenant_id=tenant_id, kind="monthly", currency="EUR", amount=Decimal(budget))]


def _model(name: str, task: str) -> Model:
    return Model(
        id=name,
        name=name,
        publisher="benchmark",
        task=task,
        vision=False,
        licence="none",
        licence_url="",
        context_tokens=CONTEXT_TOKENS,
    )


def _variant(name: str) -> ModelVariant:
    return ModelVariant(
        id=name,
        model_id=name,
        tier="base",
        context_tokens=CONTEXT_TOKENS,
        weights_id=name,
        weights_bytes=0,
        gpu_count=0,
        max_num_seqs=256,
        suggested_replicas=1,
        engine_flags=[],
        engine_env={},
        deployed=True,
        site_replicas=0,
    )


def _price(name: str, unit: str) -> Price:
    yesterday = clock.now() - timedelta(days=1)
    return Price(currency="EUR", variant_id=name, unit=unit, per_million=Decimal(1), valid_from=yesterday)


def _replica(name: str, url: str) -> Replica:
    return Replica(variant_id=name, kind="attached", state="ready", url=url, engine_model="stub", ready_at=clock.now())

"""Brings the namespaces of all tenants to what the site declares: drift is found, told and mended.

Level-triggered: everything is compared each time, so it does not matter who changed what, or when. One tenant's trouble
does not stop the others. What a tenant owes does not lie in the cluster: an invoice outlives its tenant's namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from lightkube.utils.quantity import parse_quantity
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from studio import clock
from studio.catalog.declaration import DeclaredCluster
from studio.cluster.connection import Cluster, ClusterConflict
from studio.cluster.drift import Difference, differences
from studio.cluster.tenant_objects import (
    SELECTOR,
    TENANT_ID,
    TENANT_LABEL,
    ClusterTenant,
    Manifest,
    namespace_of,
    tenant_objects,
)
from studio.db.tenancy import Tenant
from studio.db.usage import CardReservation
from studio.errors import StudioError

Outcome = Literal["in order", "mended", "drifted", "removed", "going", "failed"]


@dataclass(frozen=True, slots=True)
class TenantState:
    """One namespace after a reconciliation."""

    tenant: str
    namespace: str
    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    over_quota: tuple[str, ...] = ()  # what runs already and is more than the quota: it goes on, nothing is added
    error: str = ""

    @property
    def is_in_order(self) -> bool:
        """Whether nothing is left to do for a person."""
        return self.outcome in ("in order", "mended", "removed", "going") and not self.over_quota


def open_tenants(session: Session) -> list[ClusterTenant]:
    """Every tenant that shall have a namespace, with the cards that are reserved for it now."""
    now = clock.now()
    reserved = (
        select(func.coalesce(func.sum(CardReservation.cards), 0))
        .where(
            CardReservation.tenant_id == Tenant.id,
            CardReservation.valid_from <= now,
            CardReservation.valid_until.is_(None) | (CardReservation.valid_until > now),
        )
        .scalar_subquery()
    )
    query = (
        select(Tenant.id, Tenant.slug, reserved)
        .where(Tenant.closed_at.is_(None), ~Tenant.is_internal)
        .order_by(Tenant.slug)
    )
    return [ClusterTenant(*row) for row in session.execute(query).tuples()]


def reconcile(
    cluster: Cluster, declared: DeclaredCluster, tenants: Iterable[ClusterTenant], *, mend: bool = True
) -> list[TenantState]:
    """Compare and, unless `mend` is off, write. Namespaces of ours that belong to no open tenant are removed.

    ClusterAway when the cluster cannot even be listed; what fails for one tenant is in its state.
    """
    ours = {
        found["metadata"]["name"]: found
        for found in cluster.list("Namespace", labels=SELECTOR)
        if TENANT_ID in found["metadata"].get("annotations", {})
    }
    states = []
    for tenant in tenants:
        ours.pop(namespace_of(tenant), None)
        try:
            states.append(_tenant(cluster, declared, tenant, mend=mend))
        except StudioError as error:
            states.append(TenantState(tenant.slug, namespace_of(tenant), "failed", error=error.message))
    for name, found in ours.items():
        try:
            states.append(_closed(cluster, found, mend=mend))
        except StudioError as error:
            states.append(TenantState(_slug(found), name, "failed", error=error.message))
    return states


def _tenant(cluster: Cluster, declared: DeclaredCluster, tenant: ClusterTenant, *, mend: bool) -> TenantState:
    namespace, wanted = namespace_of(tenant), tenant_objects(tenant, declared)
    known = cluster.read("Namespace", namespace, None)
    if known is not None and known["metadata"].get("annotations", {}).get(TENANT_ID) != _id_of(wanted[0]):
        raise ClusterConflict(f"The namespace {namespace} is not ours: it does not carry this tenant's id.")
    if known is not None and known["metadata"].get("deletionTimestamp"):
        raise ClusterConflict(f"The namespace {namespace} is being removed; its tenant gets a new one after that.")
    drifted: list[Difference] = []
    for manifest in wanted:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        # In a namespace that is not there, nothing is.
        found = known if kind == "Namespace" else known and cluster.read(kind, name, namespace)
        if of_this := differences(manifest, found):
            drifted += of_this
            if mend:
                cluster.write(manifest, found)
    drifted += _foreign_policies(cluster, namespace, wanted, mend=mend) if known is not None else []
    outcome: Outcome = "in order" if not drifted else "mended" if mend else "drifted"
    return TenantState(tenant.slug, namespace, outcome, tuple(drifted), _over_quota(cluster, namespace))


def _foreign_policies(cluster: Cluster, namespace: str, wanted: list[Manifest], *, mend: bool) -> list[Difference]:
    """Network policies add up: one of somebody else's opens what ours close."""
    ours = {manifest["metadata"]["name"] for manifest in wanted if manifest["kind"] == "NetworkPolicy"}
    foreign = []
    for found in cluster.list("NetworkPolicy", namespace):
        name = found["metadata"]["name"]
        if name not in ours:
            foreign.append(Difference(namespace, f"NetworkPolicy/{name}", "", "", "there"))
            if mend:
                cluster.delete("NetworkPolicy", name, namespace)
    return foreign


def _over_quota(cluster: Cluster, namespace: str) -> tuple[str, ...]:
    quota = cluster.read("ResourceQuota", "tenant", namespace)
    if quota is None:
        return ()
    hard, used = quota["spec"].get("hard", {}), quota.get("status", {}).get("used", {})
    return tuple(
        f"{name}: {used[name]} used, {hard[name]} allowed"
        for name in sorted(hard.keys() & used.keys())
        if _amount(used[name]) > _amount(hard[name])
    )


def _closed(cluster: Cluster, found: Manifest, *, mend: bool) -> TenantState:
    name = found["metadata"]["name"]
    if found["metadata"].get("deletionTimestamp"):
        return TenantState(_slug(found), name, "going")
    if mend:
        cluster.delete("Namespace", name, None)
    there = Difference(name, f"Namespace/{name}", "", "", "there")
    return TenantState(_slug(found), name, "removed" if mend else "drifted", (there,))


def _slug(namespace: Manifest) -> str:
    return str(namespace["metadata"]["labels"][TENANT_LABEL])


def _id_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["annotations"][TENANT_ID])


def _amount(quantity: str) -> Decimal:
    amount = parse_quantity(quantity)
    assert amount is not None
    return amount

"""Whose pods may hold cards. No cluster needed."""

from __future__ import annotations

from uuid import UUID

from studio.catalog.declaration import DeclaredCluster
from studio.cluster.card_holders import CardHolder, of_tenants
from studio.cluster.tenant_objects import ClusterTenant

DECLARED = DeclaredCluster.model_validate(
    {
        "gateway": {"namespace": "studio", "port": 8080},
        "s3": {"cidr": "10.1.0.0/24", "port": 443},
        "tenants": {"acme": {"cards": 2}},
    }
)


def test_a_tenant_with_a_share_or_with_reserved_cards_is_named_and_no_other() -> None:
    acme, globex = ClusterTenant(UUID(int=1), "acme"), ClusterTenant(UUID(int=2), "globex", reserved_cards=1)
    found = list(of_tenants(DECLARED, [acme, globex, ClusterTenant(UUID(int=3), "initech")]))
    assert found == [CardHolder("tenant-acme", "*", tenant="acme"), CardHolder("tenant-globex", "*", tenant="globex")]

"""What a tenant's namespace holds, and how a difference is found. No cluster needed."""

from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from studio.catalog.declaration import DeclaredCluster
from studio.cluster.drift import differences
from studio.cluster.tenant_objects import ClusterTenant, Manifest, namespace_of, tenant_objects

ACME = ClusterTenant(UUID(int=1), "acme")
DECLARED = DeclaredCluster.model_validate(
    {
        "gateway": {"namespace": "studio", "port": 8080},
        "s3": {"cidr": "10.1.0.0/24", "port": 443},
        "tenants": {"acme": {"cards": 2, "storage_gib": 3}},
    }
)


def one(kind: str, name: str) -> Manifest:
    found = [o for o in tenant_objects(ACME, DECLARED) if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1
    return found[0]


def test_a_share_of_its_own_goes_before_everybodys() -> None:
    hard = one("ResourceQuota", "tenant")["spec"]["hard"]
    assert hard["requests.metax-tech.com/gpu"] == "2"
    assert hard["requests.storage"] == "3Gi"
    assert "limits.metax-tech.com/gpu" not in hard  # the server refuses limits of extended resources in a quota
    other = tenant_objects(ClusterTenant(UUID(int=2), "globex"), DECLARED)[1]["spec"]["hard"]
    assert other["requests.metax-tech.com/gpu"] == "0"


def test_nothing_but_dns_gateway_and_s3_is_reached() -> None:
    assert one("NetworkPolicy", "deny-all")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    rules = one("NetworkPolicy", "tenant")["spec"]["egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in rules] == [[53, 53], [8080], [443]]
    assert {port["protocol"] for port in rules[0]["ports"]} == {"UDP", "TCP"}
    assert rules[2]["to"] == [{"ipBlock": {"cidr": "10.1.0.0/24"}}]


def test_pods_are_restricted_and_get_no_token() -> None:
    labels = one("Namespace", "tenant-acme")["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == "v1.31"
    accounts = [o for o in tenant_objects(ACME, DECLARED) if o["kind"] == "ServiceAccount"]
    assert [account["automountServiceAccountToken"] for account in accounts] == [False, False]


def test_long_names_stay_apart() -> None:
    first, second = (namespace_of(ClusterTenant(UUID(int=n), "x" * 62 + letter)) for n, letter in enumerate("ab"))
    assert first != second
    assert max(len(first), len(second)) <= 63


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"tenant": {"storage_gib": 6}}, "less than or equal to 5"),
        ({"tenant": {"cards": -1}}, "greater than or equal to 0"),
        ({"s3": {"port": 443}}, "either a namespace or a cidr"),
        ({"s3": {"namespace": "studio", "cidr": "10.0.0.0/8", "port": 443}}, "either a namespace or a cidr"),
        ({"s3": {"cidr": "10.0.0.1/8", "port": 443}}, "host bits set"),
        ({"tenant": {"gpus": 1}}, "Extra inputs"),
    ],
)
def test_a_wrong_declaration_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DeclaredCluster.model_validate(DECLARED.model_dump(exclude_none=True) | wrong)


def test_every_change_is_found_and_named() -> None:
    wanted = one("NetworkPolicy", "tenant")
    assert differences(wanted, copy.deepcopy(wanted)) == []
    opened = copy.deepcopy(wanted)
    opened["spec"]["egress"].append({})
    (difference,) = differences(wanted, opened)
    assert (difference.object, difference.field) == ("NetworkPolicy/tenant", "spec.egress")
    quota = one("ResourceQuota", "tenant")
    raised = copy.deepcopy(quota)
    raised["spec"]["hard"] |= {"pods": "1000", "count/secrets": "5"}
    assert [(d.field, d.wanted, d.found) for d in differences(quota, raised)] == [
        ("spec.hard.count/secrets", "", "5"),
        ("spec.hard.pods", "10", "1000"),
    ]
    assert [d.found for d in differences(quota, None)] == [""]


def test_labels_of_others_are_theirs() -> None:
    namespace = one("Namespace", "tenant-acme")
    found = copy.deepcopy(namespace)
    found["metadata"]["labels"]["team"] = "blue"
    assert differences(namespace, found) == []
    found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "privileged"
    assert [d.found for d in differences(namespace, found)] == ["privileged"]

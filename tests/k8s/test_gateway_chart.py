"""What a release of the gateway chart becomes, and that every setting of a gateway can be given."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from k8s.chart_readme import values_of
from studio.settings import Settings
from tests.k8s.rendering import (
    CHARTS,
    EVERYWHERE,
    GATEWAY,
    Document,
    Values,
    kinds,
    merged,
    only,
    pod_spec,
    refusal,
    template,
)

VALKEY: Values = {"secrets": {"valkey_url": {"name": "valkey"}}}
AUTOSCALING: Values = {"autoscaling": {"enabled": True}, **VALKEY}

# Settings of other processes, and who they are.
OTHERS = {
    "catalog_dir": "Dagster",
    "site": "Dagster",
    "database_owner_url": "migrations",
    "database_worker_url": "Dagster",
    "database_node_agent_url": "the node agent",
    "database_auditor_url": "auditors",
    "batch_lines_per_replica": "batch workers",
    "certificate_key": "Dagster",
    "vies_url": "Dagster",
    "replica_s3_endpoint_url": "Dagster",
    "replica_s3_access_key": "Dagster",
    "replica_s3_secret_key": "Dagster",
    "replica_s3_bucket_prefix": "Dagster",
    "smtp_host": "Dagster",
    "smtp_port": "Dagster",
    "smtp_tls": "Dagster",
    "smtp_user": "Dagster",
    "smtp_password": "Dagster",
    "smtp_from": "Dagster",
    "prometheus_url": "Dagster",
    "state_metrics_host": "the state metrics",
    "state_metrics_port": "the state metrics",
    "weights_dir": "the node agent, trainers",
    "engine_python": "the node agent, trainers",
    "engine_port_base": "the node agent",
    "engine_log_dir": "the node agent",
}
# What the chart knows itself.
OWN = {
    "gateway_host",
    "gateway_port",
    "gateway_shares_port",  # no: a pod has its port for itself
    "gateway_internal_host",
    "gateway_internal_port",
    "journal_dir",
    "console_dir",  # not in its image yet
}


def gateway(*parts: Values) -> list[Document]:
    """A release with the given values over those every release needs."""
    return template("gateway", merged(GATEWAY, *parts), namespace="studio")


def refused(*parts: Values) -> str:
    """What is said to such values."""
    return refusal("gateway", merged(GATEWAY, *parts), namespace="studio")


def environment(documents: list[Document]) -> dict[str, Any]:
    """What the gateway's process sees: texts, and references to secrets."""
    (container,) = pod_spec(documents)["containers"]
    clear = only(documents, "ConfigMap")
    assert container["envFrom"] == [{"configMapRef": {"name": clear["metadata"]["name"]}}]
    return {**clear["data"], **{one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}}


class TestSettings:
    def test_every_setting_has_its_place(self) -> None:
        values = yaml.safe_load((CHARTS / "gateway/values.yaml").read_text())
        given = set(values["settings"]) | set(values["secrets"]) | OWN
        assert given | set(OTHERS) == set(Settings.model_fields)
        assert not given & set(OTHERS)

    def test_no_secret_can_be_given_in_clear(self) -> None:
        values = yaml.safe_load((CHARTS / "gateway/values.yaml").read_text())
        secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
        assert set(values["secrets"]) == secret - set(OTHERS)
        assert "cache_salt_key" in refused({"secrets": {"cache_salt_key": "in clear"}})
        assert "Secret" not in kinds(gateway())

    def test_the_chart_explains_them_in_the_words_of_the_reference(self) -> None:
        for path, _, sentence in values_of(CHARTS / "gateway"):
            group, _, name = path.partition(".")
            if group in ("settings", "secrets"):
                assert sentence == Settings.model_fields[name].description

    def test_the_process_reads_what_was_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        big = {
            "max_body_bytes": 2**40,
            "max_file_bytes": 1_000_000,
            "traces_share": 0,
            "image_hosts": "a.example,b.example",
        }
        seen = environment(gateway({"settings": big}, VALKEY))
        references = {name: value for name, value in seen.items() if isinstance(value, dict)}
        assert references["STUDIO_VALKEY_URL"] == {"secretKeyRef": {"name": "valkey", "key": "valkey-url"}}
        for name, value in seen.items():
            monkeypatch.setenv(name, "a secret" if name in references else value)
        settings = Settings()
        assert (settings.max_body_bytes, settings.max_file_bytes, settings.traces_share) == (2**40, 1_000_000, 0)
        assert settings.image_hosts == "a.example,b.example"
        assert (settings.gateway_internal_host, settings.gateway_internal_port) == (EVERYWHERE, 8081)
        assert settings.oidc_issuer is None  # left out, not empty

    def test_other_settings_restart_the_gateways(self) -> None:
        def checksum(*parts: Values) -> str:
            metadata = only(gateway(*parts), "StatefulSet")["spec"]["template"]["metadata"]
            return str(metadata["annotations"]["checksum/settings"])

        assert checksum() == checksum({"replicas": 0})
        assert checksum() != checksum({"settings": {"log_level": "DEBUG"}})

    def test_without_an_address_for_users_there_is_no_gateway(self) -> None:
        assert "gateway_url" in refused({"settings": {"gateway_url": ""}})


class TestJournal:
    def test_it_outlives_the_pod_the_number_and_the_release(self) -> None:
        spec = only(gateway(), "StatefulSet")["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        (claim,) = spec["volumeClaimTemplates"]
        assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
        mounts = {mount["name"]: mount["mountPath"] for mount in pod_spec(gateway())["containers"][0]["volumeMounts"]}
        assert mounts["journal"] == environment(gateway())["STUDIO_JOURNAL_DIR"]

    def test_its_class_is_the_clusters_unless_named(self) -> None:
        def claim(*parts: Values) -> Any:
            return only(gateway(*parts), "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]

        assert "storageClassName" not in claim()
        assert claim({"journal": {"storageClass": "local-nvme"}})["storageClassName"] == "local-nvme"

    def test_without_a_storage_class_each_has_a_folder_of_its_node(self) -> None:
        local = {"journal": {"localVolume": {"create": True, "nodes": ["node-1", "node-2"]}}}
        documents = gateway(local)
        (claim,) = only(documents, "StatefulSet")["spec"]["volumeClaimTemplates"]
        assert claim["spec"]["storageClassName"] == ""  # no class makes it: it takes the volume that names it
        volumes = [one for one in documents if one["kind"] == "PersistentVolume"]
        assert [one["spec"]["claimRef"]["name"] for one in volumes] == [f"journal-test-gateway-{n}" for n in (0, 1)]
        assert [one["spec"]["local"]["path"] for one in volumes] == [f"/var/lib/studio/journal-{n}" for n in (0, 1)]
        assert ["node-2" in str(one["spec"]["nodeAffinity"]) for one in volumes] == [False, True]
        assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in volumes} == {"keep"}
        assert "names 2 nodes and there may be 3 gateways" in refused(local, VALKEY, {"replicas": 3})
        assert "there may be 6" in refused(local, AUTOSCALING)


class TestHowMany:
    def test_zero_is_a_number(self) -> None:
        assert only(gateway({"replicas": 0}), "StatefulSet")["spec"]["replicas"] == 0
        assert "PodDisruptionBudget" not in kinds(gateway({"replicas": 0}))

    def test_the_autoscaler_owns_it_alone_and_takes_no_gateway_away(self) -> None:
        documents = gateway(AUTOSCALING)
        assert "replicas" not in only(documents, "StatefulSet")["spec"]
        scaler = only(documents, "HorizontalPodAutoscaler")["spec"]
        assert scaler["scaleTargetRef"]["kind"] == "StatefulSet"
        assert scaler["behavior"]["scaleDown"] == {"selectPolicy": "Disabled"}
        willing = only(gateway(AUTOSCALING, {"autoscaling": {"scaleDown": True}}), "HorizontalPodAutoscaler")
        assert willing["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
        assert "HorizontalPodAutoscaler" not in kinds(gateway())

    def test_several_share_their_limits_or_are_refused(self) -> None:
        assert "need Valkey" in refused({"replicas": 2})
        assert "need Valkey" in refused({"autoscaling": {"enabled": True}})
        assert only(gateway({"replicas": 2}, VALKEY), "StatefulSet")["spec"]["replicas"] == 2

    def test_a_drain_of_a_node_takes_one_at_a_time(self) -> None:
        assert only(gateway(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
        assert "PodDisruptionBudget" not in kinds(gateway({"podDisruptionBudget": {"enabled": False}}))


class TestProbesAndEnd:
    def test_probes_ask_the_internal_port(self) -> None:
        (container,) = pod_spec(gateway())["containers"]
        paths = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert {probe["port"] for probe in paths.values()} == {"internal"}
        assert paths["readinessProbe"]["path"] == "/health/ready"
        assert paths["livenessProbe"]["path"] == "/health/live"

    def test_the_internal_port_is_in_no_service_for_callers(self) -> None:
        services = {one["metadata"]["name"]: one["spec"] for one in gateway() if one["kind"] == "Service"}
        assert [port["name"] for port in services["test-gateway"]["ports"]] == ["http"]
        assert services["test-gateway-pods"]["clusterIP"] == "None"

    def test_a_grace_period_shorter_than_the_gateways_own_is_refused(self) -> None:
        assert "must be at least 35" in refused({"lifecycle": {"gracePeriodSeconds": 30}})


class TestNetwork:
    def test_metrics_are_for_monitoring_and_destinations_are_named(self) -> None:
        wide = {"networkPolicy": {"callers": ["edge"], "destinations": [{"cidr": "0.0.0.0/0", "ports": [443]}]}}
        policy = only(gateway(wide), "NetworkPolicy")["spec"]
        callers, monitoring = policy["ingress"]
        assert callers["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "edge"}
        assert monitoring["ports"] == [{"port": "internal"}]
        assert policy["egress"][1:] == [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]
        assert "NetworkPolicy" not in kinds(gateway({"networkPolicy": {"enabled": False}}))

    def test_a_destination_is_a_network_or_a_namespace(self) -> None:
        both = {"cidr": "10.0.0.0/8", "namespace": "studio", "ports": [443]}
        assert "destinations" in refused({"networkPolicy": {"destinations": [both]}})
        assert "destinations" in refused({"networkPolicy": {"destinations": [{"ports": [443]}]}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"colour": "blue"}}, "colour"),
        ({"image": "registry.example/gateway:latest"}, "image"),
        ({"secrets": {"database_gateway_url": {"name": ""}}}, "database_gateway_url"),
        ({"settings": {"traces_share": 2}}, "traces_share"),
    ],
)
def test_wrong_values_are_refused_by_name(values: Values, said: str) -> None:
    assert said in refused(values)

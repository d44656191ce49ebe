"""What a release of the monitoring chart becomes: parts on and off, blocks in the EU, who may see a node."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.dashboards import MONITORING as SOURCES
from k8s.device_plugin.service import ENDPOINT
from k8s.device_plugin.settings import from_environment as plugin_settings
from k8s.exporter.settings import Settings as ExporterSettings
from k8s.exporter.settings import from_environment as exporter_settings
from tests.k8s.monitoring.test_rules import alerts
from tests.k8s.prometheus import promtool
from tests.k8s.rendering import DAGSTER, EVERYWHERE, HELMS, MONITORING, Document, Values, merged, refusal, template

PARTS = ("prometheus", "alertmanager", "grafana", "loki", "state")
PLUGIN: Values = {"nodes": {"devicePlugin": {"enabled": True}}}
BARE: Values = {
    **{part: {"enabled": False} for part in ("alertmanager", "grafana", "loki", "state")},
    "blocks": {"enabled": False, "endpoint": "", "region": ""},
    "nodes": {part: {"enabled": False} for part in ("exporter", "logs")},
    "networkPolicy": {"enabled": False},
}


def monitoring(*parts: Values, helm: str = "helm") -> list[Document]:
    """A release with the given values over those every release needs."""
    return template("monitoring", merged(MONITORING, *parts), namespace="monitoring", helm=helm)


def refused(*parts: Values) -> str:
    """What is said to such values."""
    return refusal("monitoring", merged(MONITORING, *parts), namespace="monitoring")


def named(documents: list[Document], kind: str, name: str, whole: str = "") -> Document:
    """One object, by what follows the release's name, or by its whole name."""
    (found,) = [
        one for one in documents if one["kind"] == kind and one["metadata"]["name"] == (whole or f"test-{name}")
    ]
    return found


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Namespace and spec of every pod that the objects would make."""
    for document in documents:
        if document["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}:
            yield document["metadata"]["namespace"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", [{}, PLUGIN, BARE], ids=["default", "all", "bare"])
def test_helm_3_and_4_make_the_same_of_it(values: Values) -> None:
    four, three = (monitoring(values, helm=helm) for helm in HELMS)
    assert four == three


class TestParts:
    def test_all_of_them_and_only_prometheus(self) -> None:
        def workloads(*values: Values) -> set[str]:
            kinds = {"Deployment", "StatefulSet", "DaemonSet"}
            return {one["metadata"]["name"] for one in monitoring(*values) if one["kind"] in kinds}

        everywhere = {"test-exporter", "test-logs"}
        assert workloads() == {f"test-{part}" for part in PARTS} | everywhere
        assert workloads(PLUGIN) == workloads() | {"test-device-plugin"}
        assert workloads(BARE) == {"test-prometheus"}
        for part in ("alertmanager", "grafana", "state"):
            off = monitoring({part: {"enabled": False}})
            assert not [one for one in off if one["metadata"]["name"] == f"test-{part}"]

    def test_a_part_without_an_image_and_logs_without_loki_are_refused(self) -> None:
        assert "grafana.image" in refused({"grafana": {"image": ""}})
        assert "sidecarImage" in refused({"prometheus": {"sidecarImage": ""}})
        assert "switch loki on" in refused({"loki": {"enabled": False}})
        assert "image" in refused({"loki": {"image": "registry.example/loki:latest"}})

    def test_what_sees_the_host_has_a_namespace_of_its_own(self) -> None:
        assert "must be another" in refused({"nodes": {"namespace": "monitoring"}})


class TestPods:
    def test_those_of_the_release_are_restricted(self) -> None:
        found = [pod for namespace, pod in pods(monitoring(PLUGIN)) if namespace == "monitoring"]
        assert len(found) == len(PARTS)
        for pod in found:
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
            assert all(allowed & volume.keys() for volume in pod["volumes"])
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }

    def test_no_pod_has_a_token_a_loose_image_or_no_bound(self) -> None:
        for _, pod in pods(monitoring(PLUGIN)):
            assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
            for container in pod["containers"]:
                assert "@sha256:" in container["image"]
                assert container["resources"]["requests"] == container["resources"]["limits"]
                assert container["securityContext"]["readOnlyRootFilesystem"] is True

    def test_only_who_opens_the_cards_is_privileged(self) -> None:
        privileged = {
            container["name"]: namespace
            for namespace, pod in pods(monitoring(PLUGIN))
            for container in pod["containers"]
            if container["securityContext"].get("privileged")
        }
        assert privileged == {"exporter": "monitoring-nodes", "device-plugin": "monitoring-nodes"}
        folders = {
            volume["hostPath"]["path"]
            for _, pod in pods(monitoring(PLUGIN))
            for volume in pod["volumes"]
            if "hostPath" in volume
        }
        assert folders == {
            "/opt/mxdriver", "/dev", "/var/lib/studio-exporter", "/var/lib/kubelet/pod-resources",
            "/var/lib/kubelet/device-plugins", "/var/log/pods", "/var/lib/studio-logs",
        }  # fmt: skip
        assert not [one for _, pod in pods(monitoring()) for one in pod["volumes"] if "device-plugins" in str(one)]

    def test_secrets_are_references(self) -> None:
        documents = monitoring(PLUGIN)
        assert "Secret" not in {one["kind"] for one in documents}
        for _, pod in pods(documents):
            for container in pod["containers"]:
                for variable in container.get("env", ()):
                    if re.search(r"(KEY|PASSWORD|_USER|DATABASE_\w+_URL|ACCESS_KEY_ID)$", variable["name"]):
                        assert set(variable["valueFrom"]) == {"secretKeyRef"}


class TestNodes:
    """Exporter and device plugin as their processes would read what the chart tells them."""

    @staticmethod
    def told(name: str) -> tuple[Document, dict[str, str], set[str]]:
        """A pod, the variables of its container, and the folders that it mounts."""
        pod = named(monitoring(PLUGIN), "DaemonSet", name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        variables = {one["name"]: one.get("value", "node-1") for one in container["env"]}
        return pod, variables, {one["mountPath"] for one in container["volumeMounts"]}

    def test_the_exporter_starts_with_it_on_one_port_that_is_not_the_vendors(self) -> None:
        pod, variables, mounts = self.told("exporter")
        settings = exporter_settings(variables)
        (container,) = pod["containers"]
        documents = monitoring()
        service = named(documents, "Service", "exporter")["spec"]["ports"][0]
        prometheus = yaml.safe_load(named(documents, "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
        (job,) = (one for one in prometheus["scrape_configs"] if one["job_name"] == "studio-exporter")
        (policy,) = named(documents, "NetworkPolicy", "nodes")["spec"]["ingress"]
        ports = {settings.port, container["ports"][0]["containerPort"], service["port"], policy["ports"][0]["port"]}
        assert ports | {job["dns_sd_configs"][0]["port"]} == {9400}
        assert settings.port != 8000  # the vendor's exporter has it
        assert settings.host == EVERYWHERE
        paths = [settings.library, Path(settings.mx_smi), settings.records, Path(settings.workloads), Path("/dev/mxcd")]
        for path in (*paths, settings.pod_resources):
            assert any(path.is_relative_to(folder) for folder in mounts), path
        known = {f"STUDIO_EXPORTER_{one.name.upper()}" for one in fields(ExporterSettings)} | {"LD_LIBRARY_PATH"}
        assert variables.keys() <= known

    def test_the_device_plugin_starts_with_it_and_is_ready_when_its_socket_is_there(self) -> None:
        pod, variables, mounts = self.told("device-plugin")
        settings = plugin_settings(variables)
        for path in (settings.library, settings.folder / ENDPOINT, settings.dev / "mxcd"):
            assert any(path.is_relative_to(folder) for folder in mounts), path
        (container,) = pod["containers"]
        assert container["readinessProbe"]["exec"]["command"] == ["test", "-S", str(settings.folder / ENDPOINT)]
        assert settings.resource == exporter_settings(self.told("exporter")[1]).resources

    def test_they_run_wherever_cards_are_and_nowhere_else(self) -> None:
        for name in ("exporter", "device-plugin"):
            pod = self.told(name)[0]
            assert pod["nodeSelector"] == {"metax-tech.com/gpu.installed": "true"}
            assert pod["tolerations"] == [
                {"operator": "Exists"}
            ]  # on a control plane with cards, while a node is drained
            assert pod["containers"][0]["terminationMessagePath"] != "/dev/termination-log"

    def test_who_keeps_the_list_of_holders_may_write_that_one_object(self) -> None:
        documents = monitoring()
        assert "data" not in named(documents, "ConfigMap", "workloads", whole="studio-workloads")
        (rule,) = named(documents, "Role", "workloads")["rules"]
        assert rule == {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["studio-workloads"],
            "verbs": ["get", "patch"],
        }
        (subject,) = named(documents, "RoleBinding", "workloads")["subjects"]
        dagster = template("dagster", DAGSTER, namespace="studio")
        accounts = [one["metadata"]["name"] for one in dagster if one["kind"] == "ServiceAccount"]
        # The release is called `test` here and `studio` in the umbrella.
        assert subject["name"].replace("studio-", "test-", 1) in accounts
        by_hand = monitoring({"nodes": {"exporter": {"workloads": [{"namespace": "a", "pod": "*"}]}}})
        nobody = monitoring({"nodes": {"exporter": {"keeper": {"account": ""}}}})
        assert not [one for one in (*by_hand, *nobody) if one["kind"] in {"Role", "RoleBinding"}]


class TestBlocks:
    """They name tenants: endpoint and region stay within the EU."""

    def test_blocks_of_prometheus_and_loki_go_to_that_endpoint_and_region(self) -> None:
        documents = monitoring()
        blocks = yaml.safe_load(named(documents, "ConfigMap", "prometheus")["data"]["blocks.yaml"])
        logs = yaml.safe_load(named(documents, "ConfigMap", "loki")["data"]["loki.yaml"])
        where = {"endpoint": "s3.eu-central-1.amazonaws.com:443", "region": "eu-central-1"}
        assert blocks["config"] == {"bucket": "studio-metrics", **where}
        s3 = logs["common"]["storage"]["s3"]
        assert {name: s3[name] for name in where} == where
        assert {one["object_store"] for one in logs["schema_config"]["configs"]} == {"s3"}
        sidecar = named(documents, "StatefulSet", "prometheus")["spec"]["template"]["spec"]["containers"][1]
        assert "--objstore.config-file=/etc/thanos/blocks.yaml" in sidecar["args"]

    @pytest.mark.parametrize("region", ["us-east-1", "eu-west-2", "eu-central-2", "europe-west2", "cn-north-1"])
    def test_a_region_outside_of_the_eu_is_refused(self, region: str) -> None:
        assert "region" in refused({"blocks": {"region": region}})

    @pytest.mark.parametrize(
        ("endpoint", "region"),
        [
            ("s3.eu-central-1.amazonaws.com:443", "eu-central-1"),
            ("storage.europe-west3.rep.googleapis.com:443", "europe-west3"),
            ("s3.fr-par.scw.cloud:443", "fr-par"),
            ("fsn1.your-objectstorage.com", "fsn1"),
        ],
    )
    def test_the_endpoint_of_a_region_within_the_eu_is_taken(self, endpoint: str, region: str) -> None:
        documents = monitoring({"blocks": {"endpoint": endpoint, "region": region}})
        text = str(
            [named(documents, "ConfigMap", part)["data"] for part in ("prometheus", "loki")],
        )
        assert text.count(endpoint) == text.count(f"region: {region}") == 2

    @pytest.mark.parametrize(
        "endpoint",
        [
            "s3.us-east-1.amazonaws.com:443",
            "s3.amazonaws.com:443",
            "storage.googleapis.com:443",
            "s3.us-west-004.backblazeb2.com",
            "s3.eu-central-1x.example:443",
            "minio.example:9000",
        ],
    )
    def test_an_endpoint_elsewhere_or_of_no_region_is_refused(self, endpoint: str) -> None:
        assert "is not in blocks.region" in refused({"blocks": {"endpoint": endpoint}})

    def test_a_server_of_ones_own_need_not_say_its_region_and_a_clouds_must(self) -> None:
        own = {"endpoint": "studio-s3.studio.svc:8333", "ownEndpoint": True}
        config = yaml.safe_load(named(monitoring({"blocks": own}), "ConfigMap", "loki")["data"]["loki.yaml"])
        assert config["common"]["storage"]["s3"]["endpoint"] == own["endpoint"]
        assert "region" in refused({"blocks": own | {"region": "us-east-1"}})
        assert "no server of yours" in refused({"blocks": own | {"endpoint": "s3.us-east-1.amazonaws.com:443"}})

    def test_no_endpoint_no_region_and_one_with_a_scheme_are_refused(self) -> None:
        assert "within the EU" in refused({"blocks": {"endpoint": ""}})
        assert "within the EU" in refused({"blocks": {"region": ""}})
        assert "endpoint" in refused({"blocks": {"endpoint": "http://s3.example.eu"}})

    def test_without_a_bucket_nothing_speaks_of_one(self) -> None:
        off = monitoring({"blocks": {"enabled": False, "endpoint": "", "region": ""}})
        assert not re.search(r"thanos|AWS_|object_store: s3|0\.0\.0\.0/0.{0,40}9000", yaml.safe_dump_all(off))
        assert len(named(off, "StatefulSet", "prometheus")["spec"]["template"]["spec"]["containers"]) == 1

    def test_logs_are_forgotten(self) -> None:
        config = yaml.safe_load(named(monitoring(), "ConfigMap", "loki")["data"]["loki.yaml"])
        assert config["limits_config"]["retention_period"] == "720h"
        assert config["compactor"]["retention_enabled"] is True


class TestVolumes:
    def test_without_a_storage_class_they_are_folders_of_a_node(self) -> None:
        local = {part: {"localVolume": {"create": True, "node": "node-1"}} for part in ("prometheus", "loki")}
        documents = monitoring(local)
        for part in ("prometheus", "loki"):
            (claim,) = named(documents, "StatefulSet", part)["spec"]["volumeClaimTemplates"]
            assert claim["spec"]["storageClassName"] == ""
            name = f"data-test-{part}-0"  # as Kubernetes calls the claim of the first pod
            (volume,) = (one["spec"] for one in documents if one["metadata"]["name"] == f"monitoring-{name}")
            assert volume["claimRef"] == {"namespace": "monitoring", "name": name}
            assert volume["local"] == {"path": f"/var/lib/studio/{part}"}
        assert "whose disk it is" in refused({"loki": {"localVolume": {"create": True}}})
        assert "PersistentVolume" not in {one["kind"] for one in monitoring()}


class TestWhatIsWatched:
    def test_prometheus_accepts_its_configuration_and_has_every_job_of_the_rules(self, tmp_path: Path) -> None:
        text = named(monitoring(), "ConfigMap", "prometheus")["data"]["prometheus.yaml"]
        file = tmp_path / "prometheus.yaml"
        file.write_text(text)
        ended = subprocess.run([promtool(), "check", "config", file], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        jobs = {one["job_name"]: one for one in yaml.safe_load(text)["scrape_configs"]}
        assert jobs.keys() - {"prometheus"} == {"studio-gateway", "studio-state", "studio-exporter", "studio-engine"}
        named_in_rules = {job for alert in alerts() for job in re.findall(r'job="([^"]+)"', alert["expr"])}
        assert named_in_rules <= jobs.keys()
        (engines,) = jobs["studio-engine"]["dns_sd_configs"]
        assert (engines["names"], engines["port"]) == (["e-pods.engines.svc"], 8000)
        without = named(monitoring({"prometheus": {"targets": {"engines": []}}}), "ConfigMap", "prometheus")["data"]
        file.write_text(without["prometheus.yaml"])
        assert subprocess.run([promtool(), "check", "config", file], capture_output=True, check=False).returncode == 0
        lacking = {"target": "e-pods.engines.svc:8000", "variant": "e-fast"}
        assert "tier" in refused({"prometheus": {"targets": {"engines": [lacking]}}})

    def test_rules_and_dashboards_are_those_of_the_repository(self) -> None:
        documents = monitoring()
        rules = named(documents, "ConfigMap", "rules")["data"]
        assert rules == {path.name: path.read_text() for path in (SOURCES / "rules").glob("*.yaml")}
        boards = named(documents, "ConfigMap", "dashboards")["data"]
        assert boards.keys() == {f"studio-{path.stem}.json" for path in (SOURCES / "dashboards").glob("*.yaml")}

    def test_links_of_alerts_lead_where_a_site_keeps_its_runbook(self) -> None:
        kept = {"prometheus": {"runbook": "https://wiki.example.eu/studio/runbook.md"}}
        (cards, services) = named(monitoring(kept), "ConfigMap", "rules")["data"].values()
        links = re.findall(r"runbook_url: (.+)", cards + services)
        assert len(links) == len(alerts())
        assert "https://wiki.example.eu/studio/runbook.md#gpulost" in links
        assert all(link.startswith("https://wiki.example.eu/") for link in links)

    def test_logs_have_few_labels_and_come_from_the_named_namespaces(self) -> None:
        text = named(monitoring({"nodes": {"logs": {"namespaces": ["studio"]}}}), "ConfigMap", "logs")["data"][
            "config.alloy"
        ]
        assert re.findall(r"/var/log/pods/([^_]+)_\*", text) == ["studio"]
        (labels,) = re.findall(r"stage\.labels \{ values = \{(.+?)\} \}", text)
        assert set(re.findall(r"(\w+) =", labels)) == {"namespace", "pod", "container", "level"}
        assert "test-loki.monitoring.svc:3100" in text

    def test_who_may_reach_what(self) -> None:
        documents = monitoring({"networkPolicy": {"viewers": ["edge"]}})
        policies = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "NetworkPolicy"}
        assert policies.keys() == {*(f"test-{part}" for part in PARTS), "test-nodes"}
        assert all(set(policy["policyTypes"]) == {"Ingress", "Egress"} for policy in policies.values())
        assert "edge" in str(policies["test-grafana"]["ingress"])
        assert "'studio'" in str(policies["test-prometheus"]["ingress"])
        assert policies["test-state"]["egress"][1]["ports"] == [{"port": 5432}]
        assert named(monitoring(), "NetworkPolicy", "grafana")["spec"]["ingress"] == []


class TestAlertmanager:
    CONFIG: Any = yaml.safe_load((SOURCES / "alertmanager.yaml").read_text())

    def test_what_is_kept_back_are_alerts_that_exist(self) -> None:
        known = {alert["alert"] for alert in alerts()}
        for rule in self.CONFIG["inhibit_rules"]:
            sources, targets = (
                {name for matcher in rule[side] for name in re.findall(r"\w+(?=[|\"])", matcher)}
                for side in ("source_matchers", "target_matchers")
            )
            assert sources
            assert targets
            assert sources | targets <= known
            assert not sources & targets

    def test_no_page_is_kept_back_by_a_ticket_but_for_one_that_stands_for_it(self) -> None:
        severity = {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}
        for rule in self.CONFIG["inhibit_rules"]:
            sources = re.findall(r"\w+(?=[|\"])", rule["source_matchers"][0])
            targets = re.findall(r"\w+(?=[|\"])", rule["target_matchers"][0])
            if any(severity[name] == "page" for name in targets):
                assert all(severity[name] == "page" for name in sources)

    def test_pages_and_tickets_have_their_receivers_and_their_addresses_are_files(self) -> None:
        receivers = {one["name"]: one["webhook_configs"][0] for one in self.CONFIG["receivers"]}
        assert receivers.keys() == {"page", "ticket"}
        assert all(set(one) == {"url_file", "send_resolved"} for one in receivers.values())
        assert self.CONFIG["route"]["receiver"] == "ticket"
        (page,) = self.CONFIG["route"]["routes"]
        assert (page["matchers"], page["receiver"]) == (['severity="page"'], "page")
        pages = [alert for alert in alerts() if alert["labels"]["severity"] == "page"]
        assert len(pages) < len(alerts())

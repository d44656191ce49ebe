"""The Dagster chart: rights verb by verb, an instance that Dagster loads, runs that are restricted Jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, DagsterInvalidConfigError, DagsterRun
from dagster._core.instance.config import dagster_instance_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import construct_dagster_k8s_job
from kubernetes.client import ApiClient

from studio.catalog.declaration import DeclaredTraining
from studio.settings import REPOSITORY, Settings
from tests.k8s.control_plane import ControlPlane
from tests.k8s.rendering import CHARTS, DAGSTER, VIEW, Document, Values, merged, refusal, template
from tests.k8s.test_charts import assert_restricted

# Everything that a pod of this chart may do in the cluster: identity, namespace (`*`: all), kind, verbs.
RIGHTS = {
    ("launcher", "studio", "jobs.batch"): {"create", "get", "list", "watch", "delete"},
    ("launcher", "studio", "jobs.batch/status"): {"get"},
    ("launcher", "studio", "pods"): {"get", "list", "watch"},
    ("launcher", "studio", "pods/log"): {"get"},
    ("launcher", "studio", "events"): {"list"},
    ("code", "studio", "jobs.batch"): {"list", "delete"},
    ("code", "engines", "deployments.apps"): {"list"},
    ("code", "engines", "pods"): {"list"},
    ("code", "engines", "deployments.apps/scale"): {"update"},
    ("code", "engines", "horizontalpodautoscalers.autoscaling"): {"list"},
    ("code", "engines", "scaledobjects.keda.sh"): {"list", "patch"},
    ("code", "training", "jobs.batch"): {"create", "get", "delete"},
    ("code", "training", "pods"): {"list"},
    ("code", "*", "namespaces"): {"get", "list", "patch", "create", "delete"},
    ("code", "*", "resourcequotas"): {"get", "patch", "create", "update"},
    ("code", "*", "limitranges"): {"get", "patch", "create", "update"},
    ("code", "*", "serviceaccounts"): {"get", "patch", "create", "update"},
    ("code", "*", "networkpolicies.networking.k8s.io"): {"get", "list", "patch", "create", "update", "delete"},
}

EVERYTHING = merged(DAGSTER, {"access": {"training": True}})


def rights(documents: list[Document]) -> Iterator[tuple[tuple[str, str, str], set[str]]]:
    """What the bindings give, in the words of the table."""
    rules = {(d["kind"], d["metadata"]["name"]): d["rules"] for d in documents if d["kind"].endswith("Role")}
    for binding in documents:
        if not binding["kind"].endswith("Binding"):
            continue
        (subject,) = binding["subjects"]
        assert subject["namespace"] == "studio"
        identity = subject["name"].rsplit("-", 1)[1]
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    name, slash, part = resource.partition("/")
                    kind = f"{name}.{group}{slash}{part}" if group else resource
                    yield (identity, binding["metadata"].get("namespace", "*"), kind), set(rule["verbs"])


def test_the_rights_are_those_of_the_table() -> None:
    assert dict(rights(template("dagster", EVERYTHING, namespace="studio"))) == RIGHTS


# The words of docs/kubernetes.md.
KINDS = {
    "Jobs": "jobs.batch",
    "status of Jobs": "jobs.batch/status",
    "pods": "pods",
    "logs of pods": "pods/log",
    "events": "events",
    "Deployments": "deployments.apps",
    "scale of Deployments": "deployments.apps/scale",
    "HorizontalPodAutoscalers": "horizontalpodautoscalers.autoscaling",
    "ScaledObjects": "scaledobjects.keda.sh",
    "namespaces": "namespaces",
    "quotas": "resourcequotas",
    "limit ranges": "limitranges",
    "service accounts": "serviceaccounts",
    "network policies": "networkpolicies.networking.k8s.io",
}


def test_the_page_says_the_same_rights() -> None:
    page = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    table = page.partition("| account | where | what |\n|---|---|---|\n")[2].partition("\n\n")[0]
    said: dict[tuple[str, str, str], set[str]] = {}
    account = ""
    for row in table.splitlines():
        who, where, what = (cell.strip() for cell in row.strip("|").split("|"))
        account = who.split("`")[1] if who else account
        place = {"the release's namespace": "studio", "everywhere": "*"}.get(where) or where.strip("`").split("`")[0]
        for kinds, verbs in (part.split(": ") for part in what.split("; ") if part != "nothing"):
            said |= {(account, place, KINDS[kind]): set(verbs.split(", ")) for kind in kinds.split(", ")}
    assert said == RIGHTS
    assert account == "viewer", "the last row, which gives nothing"


def test_without_fleet_and_tenants_there_is_no_right_outside_the_namespace() -> None:
    off = template("dagster", merged(DAGSTER, {"access": {"fleet": False, "tenants": False}}), namespace="studio")
    assert {namespace for (_, namespace, _), _ in rights(off)} == {"studio"}
    assert "ClusterRole" not in {document["kind"] for document in off}


def test_the_server_gives_these_rights_and_no_more(plane: ControlPlane) -> None:
    plane.with_namespaces("studio", "engines", "training", "elsewhere")
    values = merged(EVERYTHING, {"minKubeVersion": "0.0.0"})
    arguments = ("install", "test", str(CHARTS / "dagster"), "--namespace", "studio", "--values", "-")
    plane.succeed("helm", *arguments, text=yaml.safe_dump(values))

    for identity in ("launcher", "code", "viewer"):
        for namespace in ("studio", "engines", "training", "elsewhere"):
            given = {
                kind: verbs
                for (who, where, kind), verbs in RIGHTS.items()
                if who == identity and where in (namespace, "*")
            }
            assert rights_in(plane, f"system:serviceaccount:studio:test-dagster-{identity}", namespace) == given


def rights_in(plane: ControlPlane, account: str, namespace: str) -> dict[str, set[str]]:
    """What the server says that an account may do, less what it lets everybody ask about themselves."""
    said = plane.succeed("kubectl", "auth", "can-i", "--list", "--as", account, "--namespace", namespace)
    rows = [(line.split()[0], line[line.rindex("[") + 1 : line.rindex("]")].split()) for line in said.splitlines()[1:]]
    return {kind: set(verbs) for kind, verbs in rows if not kind.startswith(("[", "self"))}


def instance_file(values: Values) -> Document:
    """`dagster.yaml` of a release."""
    documents = template("dagster", values, namespace="studio")
    found = next(one for one in documents if one["metadata"]["name"] == "test-dagster-instance")
    return dict(yaml.safe_load(found["data"]["dagster.yaml"]))


def test_a_run_is_a_restricted_job_that_goes_away(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = merged(DAGSTER, {"runs": {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}})
    written = instance_file(values)
    written["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(plane.kubeconfig)}
    written["storage"] = {"sqlite": {"base_dir": str(tmp_path)}}  # that of the chart would be asked at once
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, K8sRunLauncher)
        run = DagsterRun(job_name="process_day")
        context = launcher.get_container_context_for_run(run)
        config = context.get_k8s_job_config(job_image=None, run_launcher=launcher)
        job = construct_dagster_k8s_job(config, ["dagster"], "a-run", user_defined_k8s_config=context.run_k8s_config)
        document = ApiClient().sanitize_for_serialization(job)
    spec = document["spec"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 3600)
    pod = spec["template"]["spec"]
    assert_restricted(pod)
    assert (pod["serviceAccountName"], pod["restartPolicy"]) == ("test-dagster-code", "Never")
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-2"}
    (container,) = pod["containers"]
    assert container["image"] == DAGSTER["image"]
    assert {"configMapRef": {"name": "test-dagster-settings"}} in container["envFrom"]
    by_name = {variable["name"]: variable for variable in container["env"]}
    assert by_name["STUDIO_DATABASE_WORKER_URL"]["valueFrom"]["secretKeyRef"]["key"] == "database-worker-url"
    # The network policy of the release holds for it.
    selector = {"app.kubernetes.io/name": "dagster", "app.kubernetes.io/instance": "test"}
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    plane.with_namespaces("studio")
    answer = plane.run(
        *("kubectl", "create", "--dry-run=server", "--validate=false", "--namespace", "studio", "--filename", "-"),
        text=yaml.safe_dump(document),
    )
    assert answer.returncode == 0, answer.stderr


def test_dagster_would_refuse_a_key_that_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://nobody@127.0.0.1/nothing")
    written = instance_file(DAGSTER)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written))
    dagster_instance_config(str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written | {"run_monitor": {"enabled": True}}))
    with pytest.raises(DagsterInvalidConfigError, match="run_monitor"):
        dagster_instance_config(str(tmp_path))


def test_settings_are_of_the_platform() -> None:
    documents = template("dagster", DAGSTER, namespace="studio")
    settings = next(one for one in documents if one["metadata"]["name"] == "test-dagster-settings")["data"]
    assert settings["STUDIO_SITE"] == "two-nodes"
    assert {name.removeprefix("STUDIO_").lower() for name in settings} <= set(Settings.model_fields)
    code = next(
        one for one in documents if (one["kind"], one["metadata"]["name"]) == ("Deployment", "test-dagster-code")
    )
    environment = code["spec"]["template"]["spec"]["containers"][0]["env"]
    secret = {one["name"].removeprefix("STUDIO_").lower() for one in environment if one["name"].startswith("STUDIO_")}
    assert secret <= set(Settings.model_fields)


def test_there_is_one_daemon_also_during_an_upgrade() -> None:
    documents = template("dagster", merged(DAGSTER, {"readOnly": VIEW}), namespace="studio")
    daemons = [
        one["spec"]
        for one in documents
        if one["kind"] == "Deployment" and "dagster-daemon" in str(one["spec"]["template"]["spec"]["containers"])
    ]
    assert [(spec["replicas"], spec["strategy"]) for spec in daemons] == [(1, {"type": "Recreate"})]


def test_its_servers_log_one_event_a_line() -> None:
    def formats(*values: Values) -> set[tuple[str, ...]]:
        documents = template("dagster", merged(DAGSTER, {"readOnly": VIEW}, *values), namespace="studio")
        containers = [
            one["spec"]["template"]["spec"]["containers"][0] for one in documents if one["kind"] == "Deployment"
        ]
        assert len(containers) == 4
        environments = [{one["name"]: one.get("value", "") for one in container["env"]} for container in containers]
        return {
            (*container["command"][-2:], environment["DAGSTER_CLI_API_GRPC_LOG_FORMAT"])
            for container, environment in zip(containers, environments, strict=True)
        }

    assert formats() == {("--log-format", "json", "json")}
    assert formats({"settings": {"log_format": "console"}}) == {("--log-format", "colored", "colored")}


def test_only_our_code_sees_our_secrets() -> None:
    for document in template("dagster", DAGSTER, namespace="studio"):
        if document["kind"] == "Deployment" and not document["metadata"]["name"].endswith("-code"):
            environment = document["spec"]["template"]["spec"]["containers"][0]["env"]
            assert not [one["name"] for one in environment if one["name"].startswith("STUDIO_")]


def test_the_view_of_finance_changes_nothing_and_is_reached_through_its_proxy() -> None:
    documents = template("dagster", merged(DAGSTER, {"readOnly": VIEW}), namespace="studio")
    view = next(
        one for one in documents if (one["kind"], one["metadata"]["name"]) == ("Deployment", "test-dagster-view")
    )
    web, front = view["spec"]["template"]["spec"]["containers"]
    assert "--read-only" in web["command"]
    assert web["command"][web["command"].index("-h") + 1] == "127.0.0.1"
    assert "--allowed-group=finance" in front["args"]
    service = next(
        one for one in documents if (one["kind"], one["metadata"]["name"]) == ("Service", "test-dagster-view")
    )
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["proxy"]
    without = merged(DAGSTER, {"readOnly": {"enabled": True}})
    assert "readOnly.proxy needs image" in refusal("dagster", without, namespace="studio")
    assert "test-dagster-view" not in {one["metadata"]["name"] for one in template("dagster", DAGSTER)}


def test_as_many_fine_tunes_run_as_the_site_has_cards_and_the_rest_has_room() -> None:
    def limits(*parts: Values) -> dict[str, int]:
        runs = instance_file(merged(DAGSTER, *parts))["concurrency"]["runs"]
        return {one["value"]: one["limit"] for one in runs["tag_concurrency_limits"]}

    assert limits({"runs": {"fineTunes": 0, "batchWorkers": 3}}) == {"fine-tune": 0, "batch-worker": 3}
    quota = yaml.safe_load((CHARTS / "training/values.yaml").read_text())["quota"]
    assert limits()["fine-tune"] * DeclaredTraining.model_fields["cards"].default == quota["cards"]
    crowded = merged(DAGSTER, {"runs": {"fineTunes": 4}})
    assert "leaves no room" in refusal("dagster", crowded, namespace="studio")

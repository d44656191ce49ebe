"""What holds for every chart: the schemas of Kubernetes, Pod Security `restricted`, strict values, a true README."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.chart_readme import ValueUnexplained, readme
from tests.k8s.cases import CASES, UNSAFE, WATCHING, documents_of
from tests.k8s.rendering import CHARTS, HELMS, TOOLS, Document, Values, merged, render, template

VERSIONS = ("1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")
NAMESPACES = {chart: namespace for chart, namespace, _ in (*CASES.values(), WATCHING)}
charts = pytest.mark.parametrize(
    "chart", sorted(path.parent for path in CHARTS.glob("*/Chart.yaml")), ids=lambda p: p.name
)
cases = pytest.mark.parametrize("case", CASES)


@cases
def test_helm_3_and_4_make_the_same_of_it(case: str) -> None:
    four, three = (documents_of(CASES[case], helm) for helm in HELMS)
    assert four == three


def judge(version: str, file: Path) -> subprocess.Popen[str]:
    """The judge of built-in kinds, started."""
    command = [str(TOOLS / "kubernetes-validate"), "--strict", "--no-warn", "--quiet", "-k", version, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_every_object_is_right_for_every_kubernetes_that_is_supported(tmp_path: Path) -> None:
    fullest = (
        *(CASES["engine-all"], CASES["engine-local-volume"], UNSAFE, CASES["gateway-all"], CASES["dagster-all"]),
        CASES["gateway-local-volumes"],
        *(CASES["training-all"], CASES["data-all"]),
        WATCHING,
    )
    everything = [document for case in fullest for document in documents_of(case)]
    builtin = [document for document in everything if document["kind"] != "ScaledObject"]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(builtin))
    judges = {version: judge(version, file) for version in VERSIONS}
    said = {version: process.communicate()[0] for version, process in judges.items()}
    assert {version: process.returncode for version, process in judges.items()} == dict.fromkeys(VERSIONS, 0), said


def test_the_judge_of_kinds_would_see_a_misspelt_field(tmp_path: Path) -> None:
    document = next(one for one in documents_of(CASES["engine"]) if one["kind"] == "Deployment")
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(document))
    said = judge(VERSIONS[0], file).communicate()[0]
    assert "terminationGracePeriod" in said


def modelled_findings(documents: list[Document]) -> list[str]:
    """What is wrong with each object, by the models of its maker's package."""
    command = [TOOLS / "python", Path(__file__).parent / "modelled_kinds.py"]
    answer = subprocess.run(command, input=json.dumps(documents), capture_output=True, text=True, check=True)
    found: list[str] = json.loads(answer.stdout)
    return found


def test_keda_knows_every_field_of_its_object() -> None:
    right = next(one for one in documents_of(CASES["engine-all"]) if one["kind"] == "ScaledObject")
    wrong = deepcopy(right)
    wrong["spec"]["triggers"][0]["timeZone"] = "Europe/Berlin"
    wrong["spec"]["coolDownPeriod"] = 60
    of_right, of_wrong = modelled_findings([right, wrong])
    assert of_right == ""
    assert "spec.triggers.0.timeZone" in of_wrong
    assert "spec.coolDownPeriod" in of_wrong


def pods(documents: list[Document]) -> Iterator[Document]:
    """Specs of all pods that the objects would make."""
    for document in documents:
        spec = document.get("spec", {})
        template_ = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template_ is not None:
            yield template_["spec"]


# Whose pods may speak to the API server: `tests/k8s/test_dagster_chart.py` holds their rights to a table.
WITHOUT_PODS = ("training", "edge")
WITH_TOKEN = ("-launcher", "-code")
SECRET_NAME = re.compile(r"(KEY|URL|SECRET|PASSWORD|TOKEN)$")


@cases
def test_pods_are_restricted_and_hold_no_token_that_they_do_not_need(case: str) -> None:
    found = list(pods(documents_of(CASES[case])))
    assert found or CASES[case][0] in WITHOUT_PODS
    for pod in found:
        assert_restricted(pod)
        needs_token = CASES[case][0] == "dagster" and pod["serviceAccountName"].endswith(WITH_TOKEN)
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (needs_token, False)


def assert_restricted(pod: Document) -> None:
    """Pod Security `restricted`, and what we ask for beyond it."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert all(allowed & volume.keys() for volume in pod.get("volumes", ()))
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert "@sha256:" in container["image"]
        assert container["imagePullPolicy"] == "IfNotPresent"


@cases
def test_secrets_are_references(case: str) -> None:
    documents = documents_of(CASES[case])
    assert "Secret" not in {document["kind"] for document in documents}
    for pod in pods(documents):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            for variable in container["env"]:
                if SECRET_NAME.search(variable["name"]) and variable["name"] != "STUDIO_S3_ENDPOINT_URL":
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}


@cases
def test_every_object_says_where_it_belongs(case: str) -> None:
    chart, namespace, _ = CASES[case]
    for document in documents_of(CASES[case]):
        everywhere = document["kind"] in {
            "PersistentVolume",
            "ClusterRole",
            "ClusterRoleBinding",
            "PriorityClass",
            "GatewayClass",
        }
        # What the fleet may do to engines, and runs to fine-tunes, holds where those are.
        elsewhere = {"fleet": "engines", "training": "training"} if chart == "dagster" else {}
        expected = None if everywhere else elsewhere.get(document["metadata"]["name"].rsplit("-", 1)[-1], namespace)
        assert document["metadata"].get("namespace") == expected
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == chart


@pytest.mark.parametrize("case", ["engine", "gateway"])
def test_what_an_older_server_does_not_know_is_left_out(case: str) -> None:
    chart, namespace, values = CASES[case]
    old = template(chart, merged(values, {"minKubeVersion": "1.26.0"}), namespace=namespace)
    assert "'sleep'" in str(documents_of(CASES[case]))
    assert "'sleep'" not in str(old)
    assert "persistentVolumeClaimRetentionPolicy" not in str(old)


@charts
def test_no_level_of_the_values_takes_an_unknown_key(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    values = yaml.safe_load((chart / "values.yaml").read_text())

    def walk(schema: Any, values: Any, at: str) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False, at
            unknown = set(schema["properties"]) - {"global"}
            if isinstance(values, dict):
                assert set(values) == unknown, f"{at}: schema and values differ"
            for name, below in schema["properties"].items():
                walk(below, values.get(name) if isinstance(values, dict) else None, f"{at}.{name}")
        elif "items" in schema:
            walk(schema["items"], None, f"{at}[]")

    walk(schema, values, chart.name)


NOTHING: dict[type, Any] = {bool: False, int: 0, float: 0, str: ""}


def scalars(values: Any, schema: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Path, default and schema of every number, switch and text of the values."""
    for name, value in values.items():
        below = schema.get("properties", {}).get(name, {})
        if isinstance(value, dict):
            yield from scalars(value, below, (*at, name))
        elif not isinstance(value, list):
            yield (*at, name), value, below


# Only where the part that reads the value is on.
FULLEST = {chart: values for name, (chart, _, values) in CASES.items() if name == f"{chart}-all"}
FULLEST |= {"monitoring": WATCHING[2]}
# Read only without what `-all` switches on.
UNREAD: dict[tuple[str, str], Values] = {
    ("engine", "replicas"): {"driver": "none"},
    ("engine", "podDisruptionBudget.enabled"): {"driver": "none"},
    ("gateway", "replicas"): {"autoscaling": {"enabled": False}, "orphanedJournals": []},
}

# Read only where a cluster is asked: test_control_plane.py sees it off and on.
OF_A_CLUSTER = {("gateway", "journal.shipOrphans")}


def at(path: tuple[str, ...], value: Any) -> Values:
    """Values with nothing but this one."""
    for name in reversed(path):
        value = {name: value}
    found: Values = value
    return found


def allowed(schema: Any, candidates: list[Values]) -> list[bool]:
    """Which of the values the chart's schema takes, by a judge that is not helm's and needs no process for each."""
    code = (
        "import json, sys, jsonschema\n"
        "schema, candidates = json.load(sys.stdin)\n"
        "judge = jsonschema.Draft7Validator(schema)\n"
        "print(json.dumps([judge.is_valid(one) for one in candidates]))"
    )
    text = json.dumps([schema, candidates])
    answer = subprocess.run([TOOLS / "python", "-c", code], input=text, capture_output=True, text=True, check=True)
    found: list[bool] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("chart", [CHARTS / name for name in FULLEST], ids=lambda p: p.name)
def test_zero_false_and_nothing_can_be_said_or_are_refused_on_purpose(chart: Path) -> None:
    """Each scalar of the values, at 0, false or "": refused, or rendered as such and never taken for its default.

    The umbrella's own are its parts, which have a test each.
    """
    schema = json.loads((chart / "values.schema.json").read_text())
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    tried: list[tuple[tuple[str, ...], Any, Values]] = []
    for path, default, its in scalars(defaults, schema):
        if (chart.name, ".".join(path)) in OF_A_CLUSTER:
            continue
        nothing = NOTHING[type(default)]
        if type(default) in (int, float):
            assert "minimum" in its, f"{'.'.join(path)} has no bound: whether 0 is meant cannot be seen"
        base = merged(FULLEST[chart.name], UNREAD.get((chart.name, ".".join(path)), {}))
        present: Any = merged(defaults, base)
        for name in path:
            present = present[name]
        # What is nothing already is set to something, so that a difference can be seen; a text's form is not ours
        # to guess.
        if present == nothing and type(default) is not str:
            base = merged(base, at(path, True if type(default) is bool else 1))
        if present != nothing or type(default) is not str:
            tried.append((path, default, base))
    fitting = allowed(schema, [merged(defaults, base, at(path, NOTHING[type(d)])) for path, d, base in tried])

    def rendered(values: Values) -> str | None:
        """The objects, or nothing where helm refuses."""
        answer = render(chart, values, NAMESPACES[chart.name])
        return answer.stdout if answer.returncode == 0 else None

    assert any(fitting)
    mistaken = []
    for path, default, given in (one for one, fits in zip(tried, fitting, strict=True) if fits):
        of_nothing = rendered(merged(given, at(path, NOTHING[type(default)])))
        if of_nothing is None:
            continue  # by the chart's own judgement
        others = [given] if default == NOTHING[type(default)] else [given, merged(given, at(path, default))]
        if of_nothing in map(rendered, others):
            mistaken.append(".".join(path))
    assert mistaken == [], "nothing is taken for something else"


@charts
def test_the_readme_is_made_from_the_values(chart: Path) -> None:
    assert (chart / "README.md").read_text() == readme(chart), "run `python -m k8s.chart_readme`"


def test_a_value_without_its_sentence_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("name: broken\ndescription: None\n")
    (tmp_path / "values.yaml").write_text("a:\n  # -- explained\n  b: 1\n\n  c: 2\n")
    with pytest.raises(ValueUnexplained, match=r"a\.c has no"):
        readme(tmp_path)

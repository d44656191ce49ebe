"""The Compose file of one machine and the applications of Argo CD: right by their schemas, nothing secret in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config

from local.engine_command import EngineSpec
from studio.settings import REPOSITORY, Settings
from tests.k8s.custom_kinds import findings
from tests.k8s.rendering import CHARTS, EVERYWHERE

COMPOSE = REPOSITORY / "k8s/compose"


def compose() -> Any:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


def test_the_file_is_right_by_the_specifications_own_schema() -> None:
    wrong = compose()
    wrong["services"]["gateway"]["read-only"] = True
    of_right, of_wrong = findings([compose(), wrong])
    assert of_right == []
    assert any("read-only" in said for said in of_wrong)


def test_images_are_named_from_outside_and_listeners_are_on_loopback() -> None:
    for name, service in compose()["services"].items():
        assert service["image"].startswith("${STUDIO_"), name
        assert ":?" in service["image"], "without one, compose stops and says which"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for variable, value in service.get("environment", {}).items():
            assert not variable.endswith(("_KEY", "_PASSWORD", "_URL")) or "ENDPOINT" in variable, (name, value)
    for file in ("gateway.env", "superuser", "s3.json"):
        ignored = subprocess.run(["git", "check-ignore", f"k8s/compose/secrets/{file}"], cwd=REPOSITORY, check=False)
        assert ignored.returncode == 0, "secrets never come into the repository"


def test_our_processes_have_no_rights_and_no_files_to_write() -> None:
    services = compose()["services"]
    for name in ("migrate", "gateway", "code", "daemon", "dagster"):
        service = services[name]
        assert service["read_only"] is True, name
        assert (service["cap_drop"], service["user"]) == (["ALL"], "10001:10001")
        assert "no-new-privileges:true" in service["security_opt"]
        assert "secrets/owner.env" not in service["env_file"] or name == "migrate"
    script = f"../charts/data/files/{(CHARTS / 'data/files/roles.sh').name}"
    assert any(volume.startswith(script) for volume in services["postgres"]["volumes"])
    given = set(services["postgres"]["secrets"])
    assert given - {"superuser"} == set(
        (CHARTS / "data/files/roles.sh").read_text().split("for role in ")[1].split(";")[0].split()
    )


def test_what_is_set_is_a_setting_and_each_file_of_secrets_is_on_the_page() -> None:
    services, page = compose()["services"], (REPOSITORY / "docs/installation.md").read_text()
    named = {name for service in services.values() for name in service.get("environment", {})}
    known = {f"STUDIO_{field.upper()}" for field in Settings.model_fields}
    assert {name for name in named if name.startswith("STUDIO_")} <= known
    files = {Path(one["file"]).name for one in compose()["secrets"].values()}
    files |= {Path(file).name for service in services.values() for file in service.get("env_file", ())}
    section = page.split("## One machine with Compose")[1].split("\n## ")[0]
    passwords = page.split("| `studio-postgres` | studio | ")[1].split("\n")[0]
    assert {file for file in files if f"`{file}`" not in section + passwords} == set()


def test_an_engine_is_called_as_everywhere() -> None:
    engine = compose()["services"]["engine"]
    said = [re.sub(r"\$\{\w+:-(.+?)\}", r"\1", word) for word in engine["command"]]
    spec = EngineSpec("qwen3-32b", "qwen3-32b", "qwen3-32b", "chat", 32768, 32, (), {})
    ours = [
        EVERYWHERE if word == "127.0.0.1" else word for word in spec.arguments(Path("python3"), Path("/weights"), 8000)
    ]
    assert [part for word in said for part in word.split("=", 1)] == ours
    assert {"HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"} <= engine["environment"].keys()


def test_dagster_loads_its_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://nobody@127.0.0.1/nothing")
    text = (COMPOSE / "dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    dagster_instance_config(str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(text + "run_montoring: {}\n")
    with pytest.raises(DagsterInvalidConfigError):
        dagster_instance_config(str(tmp_path))


def test_argo_cd_knows_each_field_and_leaves_a_drivers_number_alone() -> None:
    applications = list(yaml.safe_load_all((REPOSITORY / "k8s/argocd/applications.yaml").read_text()))
    assert [found for found in findings(applications) if found] == []
    wrong = yaml.safe_load(yaml.safe_dump(applications[0]))
    wrong["spec"]["syncPolicy"]["automated"]["selfheal"] = True
    assert findings([wrong]) == [["/spec/syncPolicy/automated/selfheal: unknown"]]
    for application in applications:
        assert application["spec"]["syncPolicy"]["automated"]["prune"] is False
        assert (REPOSITORY / application["spec"]["sources"][0]["path"] / "Chart.yaml").is_file()
    engine = applications[1]["spec"]
    assert engine["ignoreDifferences"][0]["jsonPointers"] == ["/spec/replicas"]
    assert (REPOSITORY / engine["sources"][0]["path"] / engine["sources"][0]["helm"]["valueFiles"][1]).is_file()

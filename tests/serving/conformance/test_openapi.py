"""The OpenAPI document is true: what it describes is sent here in many ways, and every answer is held against it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks

from local.objects import EmbeddedObjectStore
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, wait_until
from tests.stub_engine import StubEngine

EXAMPLES = 3  # of each operation, right ones and wrong ones
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
]


@pytest.fixture(scope="module")
def storing(
    house: House, engine: StubEngine, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """A gateway with an object store, and the headers of somebody who may do everything."""
    with unit_of_work(house.operator) as session:
        key = create_key(session, house.tenant_id, "all", "tests", scopes=["inference", "usage", "admin"])
    headers = {"authorization": f"Bearer {key.text}"}
    with GatewayProcess(house.database, tmp_path_factory.mktemp("storing"), settings=objects.environment) as process:
        wait_until(lambda: httpx.get(f"{process.url}/v1/models", headers=headers).status_code == 200)
        yield process.url, headers


def test_every_answer_is_one_that_is_described(storing: tuple[str, dict[str, str]]) -> None:
    url, headers = storing
    config = schemathesis.Config.from_dict({"seed": 5})
    document = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    untrue: list[str] = []
    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and _takes_nothing(operation.definition.raw):
                continue

            @seed(5)
            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def every_answer_is_described(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)

            try:
                every_answer_is_described()
            except FailureGroup as failures:
                untrue += [f"{operation.label}: {failure}" for failure in failures.exceptions]
            except Unsatisfiable:
                # What takes no key, and no parameter or any text for one, cannot be asked wrongly.
                assert operation.label in ("GET /v1/catalog", "POST /v1/webhooks/stripe")
                assert mode is GenerationMode.NEGATIVE
    assert not untrue, "\n\n".join(untrue)


def _takes_nothing(operation: dict[str, Any]) -> bool:
    """Whether it cannot be called wrongly: a public path without parameters and body."""
    return not (operation["security"] or operation.get("parameters") or "requestBody" in operation)


def test_the_reference_for_people_says_the_same_and_loads_nothing(stranger: httpx.Client) -> None:
    document = stranger.get("/openapi.json").json()
    page = stranger.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "src=" not in page.text
    for path in document["paths"]:
        assert f"<code>{html.escape(path)}</code>" in page.text
    anchors = set(re.findall(r' id="([^"]+)"', page.text))
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= anchors
    assert set(re.findall(r'href="#([^"]+)"', page.text)) <= anchors


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "\U0001f600" * 600, "", "'; drop table tenants; --", "../../etc/passwd"]
)
def test_no_text_is_too_strange(storing: tuple[str, dict[str, str]], text: str) -> None:
    """Escaped as JSON, a text may hold what no database and no encoding takes."""
    url, headers = storing
    quoted = json.dumps(text)
    bodies = {
        "/v1/batches": '{"input_file_id":%s,"endpoint":"/v1/chat/completions","completion_window":"24h"}',
        "/v1/fine_tuning/jobs": '{"model":%s,"training_file":"file-a"}',
        "/admin/v1/tenants/acme/keys": '{"name":%s}',
        "/admin/v1/overrides": '{"variant":"smollm2-135m-instruct","reason":%s,"replicas":1}',
        "/v1/chat/completions": '{"model":%s,"messages":[{"role":"user","content":"a"}]}',
        "/v1/embeddings": '{"model":"all-minilm-l6-v2","input":%s}',
    }
    for path, body in bodies.items():
        response = httpx.post(url + path, content=body % quoted, headers=headers | {"content-type": "application/json"})
        assert response.status_code < 500, f"{path}: {response.text}"
    for path in ("/v1/models/", "/v1/files/", "/v1/batches/", "/v1/fine_tuning/jobs/", "/v1/batches?after="):
        response = httpx.get(url + path + quote(text, errors="surrogatepass"), headers=headers)
        assert response.status_code < 500, f"{path}: {response.text}"

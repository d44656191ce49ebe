"""The OpenAPI document is true: what it describes is sent here in many ways, and every answer is held against it."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings, strategies
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from tests.serving.conformance.tour import TRUE, Tour

EXAMPLES = 3  # of each operation, right ones and wrong ones
# What no call of a test can make answer well.
UNREACHED = {
    "POST /v1/moderations": "no model of the catalog can",
    "POST /v1/images/generations": "no model of the catalog can",
    "GET /admin/v1/corrections/{correction_id}/document": "a job renders it; an invoice's is read by the same code",
    "POST /admin/v1/invoices/{invoice_id}/again": "only after a cancellation that a job has carried out",
    "POST /admin/v1/rerates/{month}/corrections": "only of usage that jobs have rated; tests/admin looks",
    "POST /admin/v1/invoices/{invoice_id}/payouts": "only after a correction that a job has carried out",
}


def test_every_operation_answers_well_and_what_it_says_is_described(tour: Tour) -> None:
    assert not tour.untrue, "\n\n".join(tour.untrue)
    assert tour.operations.keys() - tour.reached.keys() == UNREACHED.keys()


def test_every_operation_asks_for_the_key_and_the_scope_that_it_names(tour: Tour) -> None:
    """`slow` may do inference, and nothing else."""
    known = dict.fromkeys(["file_id", "month", "window", "entry", "kind", "format"], "x")
    for label, operation in tour.operations.items():
        method, path = label.split(" ")
        ids = known | dict.fromkeys(re.findall(r"{(\w+)}", path), "x") | tour.reached.get(label, {})
        raw = operation.definition.raw
        address = tour.url + path.format_map(ids)
        answers = [
            tour.client.request(method, address, headers=headers, json={} if "requestBody" in raw else None)
            for headers in ({}, {"authorization": f"Bearer {tour.keys['slow']}"})
        ]
        statuses = [answer.status_code for answer in answers]
        if not raw["security"]:
            continue
        scopes = raw["x-required-scope"]
        assert statuses[0] == 401, (label, answers[0].text)
        assert (statuses[1] == 403) == ("inference" not in scopes), (label, answers[1].text)
        for answer in answers:
            if not answer.is_success:
                assert answer.json()["error"]["message"].endswith((".", "?", "`")), (label, answer.text)


def test_every_answer_is_one_that_is_described(tour: Tour) -> None:
    untrue: list[str] = []
    for label, operation in tour.operations.items():
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and _takes_nothing(operation.definition.raw):
                continue
            try:
                _ask_in_many_ways(tour, label, mode)
            except FailureGroup as failures:
                untrue += [f"{label}: {failure}" for failure in failures.exceptions]
            except Unsatisfiable:
                # What takes no key, and no parameter or any text for one, cannot be asked wrongly.
                assert label in ("GET /v1/catalog", "POST /v1/webhooks/stripe")
                assert mode is GenerationMode.NEGATIVE
    assert not untrue, "\n\n".join(untrue)


def _ask_in_many_ways(tour: Tour, label: str, mode: GenerationMode) -> None:
    """With ids of things that are there, and of others. FailureGroup for an answer that is not described."""
    headers = {"authorization": f"Bearer {tour.keys['all']}"}
    ids = {name: quote(id, safe="") for name, id in tour.reached.get(label, {}).items()}

    @seed(5)
    @given(case=tour.operations[label].as_strategy(generation_mode=mode), is_there=strategies.booleans())
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def every_answer_is_described(case: schemathesis.Case[Any], is_there: bool) -> None:
        if is_there and ids:
            case.path_parameters = ids
        case.call_and_validate(base_url=tour.url, headers=headers, checks=TRUE)

    every_answer_is_described()


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
def test_no_text_is_too_strange(tour: Tour, text: str) -> None:
    """Escaped as JSON, a text may hold what no database and no encoding takes."""
    url, headers = tour.url, {"authorization": f"Bearer {tour.keys['all']}"}
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

"""The edge chart: objects that Envoy Gateway's own schemas know, and whose limits nobody can spend for another."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from studio import api_keys
from tests.k8s.cases import CASES, documents_of
from tests.k8s.custom_kinds import findings
from tests.k8s.rendering import EDGE, Document, merged, refusal, template


def by_name(documents: list[Document], kind: str) -> dict[str, Any]:
    """Specs of one kind."""
    return {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == kind}


@pytest.mark.parametrize("case", ["edge", "edge-all", "edge-bare"])
def test_every_field_is_in_the_schemas_of_gateway_api_and_envoy_gateway(case: str) -> None:
    documents = documents_of(CASES[case])
    assert [found for found in findings(documents) if found] == []


def test_the_judge_of_these_schemas_would_see_what_is_wrong() -> None:
    documents = documents_of(CASES["edge-all"])
    policy = deepcopy(next(one for one in documents if one["kind"] == "ClientTrafficPolicy"))
    policy["spec"]["connection"]["conectionLimit"] = {"value": 1}
    policy["spec"]["tls"]["minVersion"] = 1.2
    route = deepcopy(next(one for one in documents if one["kind"] == "HTTPRoute"))
    route["spec"]["rules"][0]["backendRef"] = []
    of_policy, of_route = findings([policy, route])
    assert "/spec/connection/conectionLimit: unknown" in of_policy
    assert any(said.startswith("/spec/tls/minVersion: ") for said in of_policy)
    assert of_route == ["/spec/rules/0/backendRef: unknown"]


def test_tokens_are_checked_and_keys_pass_to_the_gateway() -> None:
    documents = template("edge", EDGE, namespace="studio")
    (policy,) = by_name(documents, "SecurityPolicy").values()
    checked = {target["name"] for target in policy["targetRefs"]}
    routes = by_name(documents, "HTTPRoute")
    for name, route in routes.items():
        wants_token = "Bearer ey" in str(route["rules"])
        assert wants_token == (name in checked), name
    (provider,) = policy["jwt"]["providers"]
    assert (provider["audiences"], provider["remoteJWKS"]["uri"]) == (["xpulink-studio"], EDGE["jwt"]["jwksUri"])
    # The header that limits go by is the provider's word: what a caller wrote is dropped before anything reads it.
    assert provider["claimToHeaders"] == [{"claim": "tenant", "header": "x-studio-tenant"}]
    (client,) = by_name(documents, "ClientTrafficPolicy").values()
    assert client["headers"]["earlyRequestHeaders"]["remove"] == ["x-studio-tenant"]
    assert client["path"] == {"escapedSlashesAction": "KeepUnchanged"}  # `/v1/models/org%2Fname`, as SDKs write it


def test_every_request_has_one_kind_of_caller() -> None:
    routes = by_name(template("edge", EDGE, namespace="studio"), "HTTPRoute")
    headers = {
        name.split("-")[1]: [match.get("headers", []) for rule in route["rules"] for match in rule["matches"]]
        for name, route in routes.items()
        if name.endswith("-requests")
    }
    assert headers.pop("others") == [[]]  # what the others leave
    pattern = {caller: re.compile(found[0][0]["value"]) for caller, found in headers.items()}

    def callers(authorization: str) -> list[str]:
        return [caller for caller, wanted in pattern.items() if wanted.fullmatch(authorization)]

    assert callers(f"Bearer {api_keys.mint().text}") == ["keys"]
    assert callers("Bearer eyJhbGciOiJSUzI1NiJ9.eyJ0ZW5hbnQiOiJhY21lIn0.c2ln") == ["people"]
    for authorization in ("", "Basic eHB1Xzp4", "Bearer guess", "bearer xpu_1"):
        assert callers(authorization) == []


def test_each_caller_has_a_limit_and_each_body_but_a_files_a_size() -> None:
    policies = by_name(template("edge", EDGE, namespace="studio"), "BackendTrafficPolicy")
    counted_by = {"people": ["x-studio-tenant"], "keys": ["authorization"]}
    assert len(policies) == 6
    for name, policy in policies.items():
        rules = policy["rateLimit"]["global"]["rules"]
        selectors = [one for rule in rules for one in rule["clientSelectors"]]
        wanted = [one["headers"][0] if "headers" in one else one["sourceCIDR"] for one in selectors]
        assert {one["type"] for one in wanted} == {"Distinct"}, "each has its own count"
        by = [one.get("name", one.get("value")) for one in wanted]
        assert by == [*counted_by.get(name.split("-")[1], ()), "0.0.0.0/0", "::/0"]
        limits = [rule["limit"]["requests"] for rule in rules]
        assert limits == [12000 if "sourceCIDR" in one else 6000 for one in selectors]
        assert ("requestBuffer" in policy) == name.endswith("-requests")
        assert policy["timeout"]["http"]["requestTimeout"] == "0s", "streams are not cut"


def test_the_door_of_finance_has_a_limit_too() -> None:
    policies = by_name(documents_of(CASES["edge-all"]), "BackendTrafficPolicy")
    rules = policies["test-finance"]["rateLimit"]["local"]["rules"]
    assert [rule["limit"]["requests"] for rule in rules] == [12000, 12000]


def test_what_is_off_is_gone() -> None:
    documents = documents_of(CASES["edge-bare"])
    kinds = {one["kind"] for one in documents}
    assert not kinds & {"SecurityPolicy", "EnvoyExtensionPolicy", "GatewayClass"}
    (gateway,) = by_name(documents, "Gateway").values()
    assert [listener["port"] for listener in gateway["listeners"]] == [443]
    assert not any("rateLimit" in policy for policy in by_name(documents, "BackendTrafficPolicy").values())


def test_what_cannot_be_is_refused_with_a_way_out() -> None:
    for change, said in (
        ({"host": ""}, "needs host and upstream.service"),
        ({"jwt": {"jwksUri": ""}}, "set jwt.enabled to false"),
        ({"waf": {"enabled": True}}, "a module that may change is no guard"),
        ({"jwt": {"issuer": "http://id.example"}}, "issuer"),
        ({"limits": {"requests": 0}}, "requests"),
    ):
        assert said in refusal("edge", merged(EDGE, change), namespace="studio")

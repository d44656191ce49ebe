"""Kong's declarative file says what the edge chart says. Kong does not run here: its fields are those of the manual."""

from __future__ import annotations

from typing import Any

import yaml

from studio.settings import REPOSITORY
from tests.k8s.rendering import CHARTS, EDGE, merged, template

KONG: Any = yaml.safe_load((REPOSITORY / "k8s" / "kong" / "kong.yaml").read_text())
# What Kong 3 knows, as far as the file needs it: with any other field it does not start.
FIELDS = {
    "file": {"_format_version", "services", "consumers"},
    "service": {"name", "url", "connect_timeout", "read_timeout", "write_timeout", "retries", "routes"},
    "route": {
        *("name", "hosts", "paths", "headers", "protocols", "https_redirect_status_code", "strip_path"),
        *("preserve_host", "request_buffering", "response_buffering", "plugins"),
    },
    "plugin": {"name", "config"},
    "jwt": {"key_claim_name", "claims_to_verify", "header_names", "uri_param_names"},
    "rate-limiting": {"minute", "limit_by", "header_name", "policy", "fault_tolerant", "hide_client_headers"},
    "request-size-limiting": {"allowed_payload_size", "size_unit", "require_content_length"},
    "consumer": {"username", "jwt_secrets"},
    "jwt secret": {"key", "algorithm", "rsa_public_key"},
}


def test_every_field_is_one_of_kongs() -> None:
    def known(kind: str, document: dict[str, Any]) -> None:
        assert document.keys() <= FIELDS[kind], kind

    known("file", KONG)
    for service in KONG["services"]:
        known("service", service)
        for route in service["routes"]:
            known("route", route)
            for plugin in route["plugins"]:
                known("plugin", plugin)
                known(plugin["name"], plugin["config"])
    for consumer in KONG["consumers"]:
        known("consumer", consumer)
        for secret in consumer["jwt_secrets"]:
            known("jwt secret", secret)


def test_it_has_the_routes_of_the_edge_with_their_limits() -> None:
    upstream = yaml.safe_load((CHARTS / "studio/values.yaml").read_text())["edge"]["upstream"]
    documents = template("edge", merged(EDGE, {"upstream": upstream}), namespace="studio")
    specs = {(one["kind"], one["metadata"]["name"].removeprefix("test-")): one["spec"] for one in documents}
    (service,) = KONG["services"]
    routes = {route["name"]: route for route in service["routes"]}
    assert routes.keys() == {name for kind, name in specs if kind == "BackendTrafficPolicy"}
    signed = {target["name"].removeprefix("test-") for target in specs["SecurityPolicy", "people"]["targetRefs"]}
    for name, route in routes.items():
        (rule,) = specs["HTTPRoute", name]["rules"]
        (target,) = rule["backendRefs"]
        assert service["url"] == f"http://{target['name']}.studio.svc:{target['port']}"
        assert route["paths"] == [match["path"]["value"] for match in rule["matches"]]
        (header,) = rule["matches"][0].get("headers") or [None]
        assert route.get("headers") == (header and {header["name"]: [f"~*^{header['value']}"]})
        plugins = {plugin["name"]: plugin["config"] for plugin in route["plugins"]}
        assert ("jwt" in plugins) == (name in signed)
        policy = specs["BackendTrafficPolicy", name]
        assert ("request-size-limiting" in plugins) == ("requestBuffer" in policy)
        if "requestBuffer" in policy:
            assert f"{plugins['request-size-limiting']['allowed_payload_size']}Mi" == policy["requestBuffer"]["limit"]
        first = policy["rateLimit"]["global"]["rules"][0]["limit"]
        assert (plugins["rate-limiting"]["minute"], "Minute") == (first["requests"], first["unit"])


def test_nothing_is_held_back_sent_twice_or_let_in_unsigned() -> None:
    (service,) = KONG["services"]
    assert (service["retries"], service["read_timeout"]) == (0, 600_000)
    for route in service["routes"]:
        assert route["response_buffering"] is False, "or a stream comes at its end"
        assert route["protocols"] == ["https"]
    issuers = [secret["key"] for consumer in KONG["consumers"] for secret in consumer["jwt_secrets"]]
    assert issuers == [EDGE["jwt"]["issuer"]]

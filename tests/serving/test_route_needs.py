"""Every route says what its caller must be allowed to do; what it says is what the document says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from serving import admin
from serving.app import TENANT_ROUTES
from serving.identity.needs import needs_of
from serving.identity.permissions import EVERYWHERE, IN_TENANT, Permission, Role, everywhere, in_tenant, of_scopes
from serving.routes.caller import authenticate
from studio.settings import REPOSITORY
from tests.serving.gateway_process import GatewayProcess


def routes() -> list[RouteContext]:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for part in (*TENANT_ROUTES, admin):
        app.include_router(part.router)
    return list(iter_route_contexts(app.routes))


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{','.join(route.methods)} {route.path}")
class TestEveryRoute:
    def test_declares_what_it_needs(self, route: RouteContext) -> None:
        assert isinstance(route.original_route, APIRoute)
        assert needs_of(route), "declare a caller (serving/routes/caller.py, serving/admin/access.py) or PUBLIC"

    def test_of_operators_that_changes_something_needs_more_than_to_read(self, route: RouteContext) -> None:
        permissions = {need.permission for need in needs_of(route)}
        assert route.path is not None
        if route.path.startswith("/admin/"):
            assert Permission.READ in permissions
            assert route.methods == {"GET"} or permissions & {Permission.BILLING, Permission.OPERATE}
        else:
            assert not permissions & {Permission.READ, Permission.BILLING, Permission.OPERATE}


def test_a_route_that_only_authenticates_has_declared_nothing() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/forgotten", dependencies=[Depends(authenticate)])
    def forgotten() -> None: ...

    assert [needs_of(route) for route in iter_route_contexts(app.routes)] == [frozenset()]


def test_the_document_says_it_of_every_operation(gateway: GatewayProcess) -> None:
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    operations: dict[str, dict[str, Any]] = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert all("security" in one and "Needs " in one["description"] for one in operations.values())
    chat = operations["POST /v1/chat/completions"]
    assert (chat["x-required-scope"], chat["x-required-role"]) == (["inference"], ["owner", "developer"])
    approve = operations["POST /admin/v1/invoices/{invoice_id}/approvals"]
    assert (approve["x-required-scope"], approve["x-required-role"]) == (
        ["admin"],
        ["ops (everywhere)", "finance (everywhere)"],
    )
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_a_role_in_a_tenant_is_nothing_to_operators_and_the_reverse() -> None:
    of_operators = of_scopes(["admin"])
    everybody = ["owner", "developer", "finance", "ops", "auditor"]
    assert not in_tenant(everybody) & of_operators  # type: ignore[arg-type]  # members of a StrEnum are their text
    assert everywhere(everybody) == of_operators  # type: ignore[arg-type]


def test_the_operator_guide_has_the_table_that_is_enforced() -> None:
    guide = (REPOSITORY / "docs" / "operator-guide.md").read_text()
    table = guide[guide.index("| role in the token | holds |") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    told = {
        (role.strip("`"), holds): {Permission(name) for name, cell in zip(head[2:], cells, strict=True) if cell == "x"}
        for role, holds, *cells in rows
    }
    enforced = {(str(role), "in the tenants of the token"): set(held) for role, held in IN_TENANT.items()}
    for role, held in EVERYWHERE.items():
        enforced[str(role) if role == Role.OPS else f"platform-{role}", "everywhere"] = set(held)
    assert told == enforced
    assert set(head[2:]) == set(Permission)

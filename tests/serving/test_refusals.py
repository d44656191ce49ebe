"""Every refusal has a reason and a way out: its code stands in docs/refusals.md, and what a client sees says both."""

from __future__ import annotations

import ast
import asyncio
import importlib
import pkgutil
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import cache

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

import billing
import serving
import studio
from serving import envelope
from serving.app import described_application
from serving.budgets.account import Budget
from studio import clock, ids
from studio.errors import (
    InsufficientQuota,
    InvalidApiKey,
    InvalidRequest,
    ModelAsleep,
    ModelNotFound,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    StudioError,
)
from studio.settings import REPOSITORY

ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)
# Of the command line and of jobs: no route gives them.
NOT_OURS = {"catalog_invalid"}
# Chosen by the budget that is empty.
OF_BUDGETS = {"credit_balance_exhausted", "project_spend_limit_exceeded", "organization_spend_limit_exceeded"}


def kinds(of: type[StudioError] = StudioError) -> Iterator[type[StudioError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@cache
def codes_in_the_code() -> dict[str, int]:
    """Each code with its status: those of classes, and those that a raiser names."""
    found = {StudioError.default_code: StudioError.status} | dict.fromkeys(OF_BUDGETS, InsufficientQuota.status)
    for package in (serving, studio, billing):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    of_class = {
        kind.__name__: kind for kind in kinds() if kind.__module__.split(".")[0] in ("serving", "studio", "billing")
    }
    found |= {kind.default_code: kind.status for kind in of_class.values()}
    for folder in ("serving", "studio", "billing"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                kind = of_class.get(ast.unparse(node.func))
                named = next((one.value for one in node.keywords if one.arg == "code"), None)
                if isinstance(named, ast.Constant) and isinstance(named.value, str):
                    found[named.value] = (kind or InvalidRequest).status
    return found


@pytest.fixture(scope="module")
def failing() -> FastAPI:
    """The gateway's routes and refusals, with some more that go wrong."""
    app = described_application(1_000)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError

    @app.get("/counted")
    def counted(number: int) -> int:
        return number

    @app.get("/unstorable")
    def unstorable() -> None:
        "\ud800".encode()

    return app


def test_every_code_has_its_reason_and_its_way_out_on_the_page_of_refusals() -> None:
    page = {code: int(status) for status, code, _, _ in ROW.findall((REPOSITORY / "docs" / "refusals.md").read_text())}
    there = {code: status for code, status in codes_in_the_code().items() if code not in NOT_OURS}
    assert page == there


def test_the_user_guide_says_the_same_of_those_that_it_lists() -> None:
    guide = (REPOSITORY / "docs" / "user-guide.md").read_text()
    table = guide[guide.index("| status, code | meaning |") :].split("\n\n")[0]
    there = codes_in_the_code()
    for status, codes in re.findall(r"^\| (\d{3}) (`[^|]+) \|", table, re.MULTILINE):
        assert {there.get(code) for code in re.findall(r"`(\w+)`", codes)} == {int(status)}, codes


@pytest.mark.parametrize(
    ("error", "type", "words"),
    [
        (NotFound("there is no hold x"), "invalid_request_error", r"there is no hold x\. Look for"),
        (ModelNotFound("x"), "invalid_request_error", r"do not have access to it\. `GET /v1/models` lists"),
        (ServiceUnavailable("It is away.", retry_after=timedelta(seconds=2)), "service_unavailable_error", "in 2 s"),
        (ModelAsleep("x", None, clock.now(), "it is closed"), "service_unavailable_error", "Use another model"),
        (ModelAsleep("x", clock.now() + timedelta(hours=1), clock.now(), "y"), "service_unavailable_error", "in about"),
        (RateLimited("2 requests", timedelta(seconds=1)), "rate_limit_error", "Please retry in 1 s"),
        (RateLimited("2 tokens", None), "rate_limit_error", "ask for less"),
        (InvalidApiKey("x"), "invalid_request_error", "x"),
    ],
)
def test_what_a_class_says_by_itself(error: StudioError, type: str, words: str) -> None:
    assert error.type == type
    assert re.search(words, error.message)


@pytest.mark.parametrize("kind", ["prepaid", "monthly"])
@pytest.mark.parametrize("key", [None, ids.uuid7()])
def test_money_that_is_gone_is_insufficient_quota_for_ever(kind: str, key: None) -> None:
    budget = Budget(ids.uuid7(), ids.uuid7(), key, kind, "EUR", Decimal(5), clock.now(), "Europe/Berlin")  # type: ignore[arg-type]
    refused = budget.exhausted(available=Decimal(0), needed=Decimal(1))
    assert (refused.status, refused.type, refused.code in OF_BUDGETS) == (429, "insufficient_quota", True)
    assert "To go on, " in refused.message
    assert (b"x-should-retry", b"false") in envelope.headers_of(refused)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "words"),
    [
        ("GET", "/v1/nothing", 404, "not_found", "There is nothing at /v1/nothing. `/docs` lists the paths"),
        ("POST", "/v1/models", 405, "method_not_allowed", "POST is not allowed for /v1/models; use GET"),
        ("GET", "/counted?number=many", 400, "invalid_request", "valid integer, unable to parse string"),
        ("GET", "/broken", 500, "internal_error", "Try again; if it fails again, tell your operator"),
        ("GET", "/unstorable", 400, "invalid_request", "Leave it out"),
    ],
)
def test_what_the_framework_refuses_names_a_way_out(
    failing: FastAPI, method: str, path: str, status: int, code: str, words: str
) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=failing, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path)

    with capture_logs() as logs:
        answer = asyncio.run(ask())
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert words in error["message"]
    assert [line["log_level"] for line in logs if line["event"] == "request_failed"] == ["error"] * (status == 500)

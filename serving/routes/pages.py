"""Pages for people: the first one, and the API reference. No script, nothing from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from serving.fleet.states import VariantState
from serving.identity.needs import PUBLIC
from serving.reference import reference
from serving.routes import models
from serving.routes.caller import Parts
from studio import clock
from studio.settings import settings

if TYPE_CHECKING:
    from jinja2 import Environment

PAGES = Path(__file__).parent.parent / "pages"

router = APIRouter(include_in_schema=False)


def _coded(text: str) -> Markup:
    """Text in which `backticks` mark code, as this project's docstrings and refusals have it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped just before)


@cache
def _templates() -> Environment:
    """Jinja comes with the first page that somebody looks at: most gateways show none, and it takes 2 MB."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters["coded"] = _coded
    return templates


def _style(*sheets: str) -> str:
    return "".join((PAGES / sheet).read_text() for sheet in sheets)


def _headers(style: str) -> dict[str, str]:
    """The one style sheet stands in the page and is named by its hash; nothing else may load, run or frame."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {
        "content-security-policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


_FIRST_STYLE = _style("first.css")
_DOCS_STYLE = _style("first.css", "docs.css")


@router.get("/", dependencies=[PUBLIC])
async def first_page(parts: Parts) -> HTMLResponse:
    """For people. Programs ask `/v1/models`."""
    catalog = models.models(parts.view.fleet, clock.now(), parts.engines.balancer.health)
    order = {state: place for place, state in enumerate(get_args(VariantState))}
    templates = await asyncio.to_thread(_templates)
    page = templates.get_template("first.html").render(
        models=sorted(catalog, key=lambda model: order[model.state]),
        here=[model for model in catalog if model.state != "not_deployed"],
        gateway_url=settings().gateway_url,
        dagster_url=settings().dagster_url,
        style=_FIRST_STYLE,
    )
    return HTMLResponse(page, headers=_headers(_FIRST_STYLE))


@router.get("/docs", dependencies=[PUBLIC])
def api_reference(request: Request) -> HTMLResponse:
    """The OpenAPI document for people. It is one and the same until the process ends."""
    page: str | None = getattr(request.app.state, "api_reference", None)
    if page is None:
        api = reference(request.app.openapi())
        page = _templates().get_template("docs.html").render(api=api, style=_DOCS_STYLE)
        request.app.state.api_reference = page
    return HTMLResponse(page, headers=_headers(_DOCS_STYLE))

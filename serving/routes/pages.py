"""The first page: what this is, what runs, where to go. No script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from serving.identity.needs import PUBLIC
from serving.routes import models
from serving.routes.caller import Parts
from studio import clock
from studio.settings import settings

PAGES = Path(__file__).parent.parent / "pages"

router = APIRouter(include_in_schema=False)
_templates = Environment(loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_STYLE = (PAGES / "first.css").read_text()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    # The one style sheet stands in the page and is named by its hash; nothing else may load, run or frame.
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@router.get("/", dependencies=[PUBLIC])
async def first_page(parts: Parts) -> HTMLResponse:
    """For people. Programs ask `/v1/models`."""
    catalog = models.models(parts.view.fleet, clock.now())
    order = {"warm": 0, "starting": 1, "cold": 2, "not_deployed": 3}
    page = _templates.get_template("first.html").render(
        models=sorted(catalog, key=lambda model: order[model.state]),
        here=[model for model in catalog if model.state != "not_deployed"],
        gateway_url=settings().gateway_url,
        dagster_url=settings().dagster_url,
        style=_STYLE,
    )
    return HTMLResponse(page, headers=_HEADERS)

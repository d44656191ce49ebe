"""What `studio batch` and `studio finetune` do alike with quotes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import typer

from local.api import Api, ApiRefused


def sentence(quote: Mapping[str, Any]) -> str:
    """A quote in words."""
    until = datetime.fromtimestamp(quote["expires_at"], UTC)
    price = f"{quote['max_cost']} {quote['currency']} at most, net, until {until:%Y-%m-%d %H:%M} UTC"
    return f"{quote['id']}: {price}."


def quote_within(api: Api, what: Mapping[str, Any], at_most: str, noun: str) -> str:
    """Ask for a quote and return its id. ApiRefused when it is more than `at_most`, an amount as it was typed."""
    try:
        limit = Decimal(at_most)
    except InvalidOperation as error:
        raise typer.BadParameter(f"{at_most!r} is no amount: write it as 5.00", param_hint="--at-most") from error
    found = api.post("/v1/quotes", what)
    if Decimal(found["max_cost"]) > limit:
        price = f"{found['max_cost']} {found['currency']}"
        raise ApiRefused(
            f"The {noun} may cost {price}, more than {limit}; nothing was run. The quote is {found['id']}."
        )
    return str(found["id"])

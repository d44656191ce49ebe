"""`/v1/try-it`: what the box of the first page may do. Questions go to `serving/try_it/endpoint.py`."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from serving.identity.needs import PUBLIC
from serving.routes.caller import Parts
from serving.try_it.box import MOST_CHARACTERS, MOST_TOKENS
from serving.try_it.choice import cheapest_warm
from studio import clock
from studio.errors import ModelAsleep, NotFound, StudioError

router = APIRouter(prefix="/v1/try-it", tags=["models"])


class TryItState(BaseModel):
    """How the box is at this moment."""

    object: Literal["try_it"]
    is_on: bool
    model: str | None  # the cheapest chat model that is warm; null: none is
    eta_seconds: int | None  # until one is, as far as that is known
    most_characters: int
    most_tokens: int


@router.get("", dependencies=[PUBLIC])
async def read_try_it(parts: Parts, response: Response) -> TryItState:
    """Whether visitors without a key may ask, and who would answer."""
    response.headers["cache-control"] = "no-store"
    model, eta, is_on = None, None, parts.try_it.is_on
    try:
        await parts.try_it.open()
        model = cheapest_warm(parts.view.fleet, clock.now(), parts.engines.balancer.health).id
    except ModelAsleep as asleep:
        eta = None if asleep.ready_in is None else round(asleep.ready_in.total_seconds())
    except NotFound:
        is_on = False
    except StudioError:
        pass  # on, and nobody answers: as if cold
    return TryItState(
        object="try_it",
        is_on=is_on,
        model=model,
        eta_seconds=eta,
        most_characters=MOST_CHARACTERS,
        most_tokens=MOST_TOKENS,
    )

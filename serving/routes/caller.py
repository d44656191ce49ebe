"""Who calls a FastAPI route. A route with none of the callers below among its arguments is public."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from serving.gateway import Gateway
from serving.keys import KeyRecord, require
from studio import clock


def gateway(request: Request) -> Gateway:
    """The parts of this process."""
    parts: Gateway = request.app.state.gateway
    return parts


def authenticate(request: Request, parts: Annotated[Gateway, Depends(gateway)]) -> KeyRecord:
    """The caller's key, whatever it allows."""
    return parts.keys.authenticate(request.headers.get("authorization"), clock.now())


def _usage_caller(record: Annotated[KeyRecord, Depends(authenticate)]) -> KeyRecord:
    return require(record, "usage")


def _inference_caller(record: Annotated[KeyRecord, Depends(authenticate)]) -> KeyRecord:
    return require(record, "inference")


Parts = Annotated[Gateway, Depends(gateway)]
AnyCaller = Annotated[KeyRecord, Depends(authenticate)]
InferenceCaller = Annotated[KeyRecord, Depends(_inference_caller)]
UsageCaller = Annotated[KeyRecord, Depends(_usage_caller)]

"""Who calls a FastAPI route, and what the route asks of them. One for everybody says so: `identity/needs.PUBLIC`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from serving.gateway import Gateway
from serving.identity.callers import Header
from serving.identity.needs import Need
from serving.identity.permissions import Permission
from serving.keys import KeyRecord, Scope, require, require_endpoint
from studio import clock


def gateway(request: Request) -> Gateway:
    """The parts of this process."""
    parts: Gateway = request.app.state.gateway
    return parts


def header_of(request: Request) -> Header:
    """The request's headers as callers are recognised by."""
    return lambda name: request.headers.get(name.decode())


async def authenticate(request: Request, parts: Annotated[Gateway, Depends(gateway)]) -> KeyRecord:
    """The caller's key, or the person's who signed in, whatever it allows."""
    return await parts.callers.in_tenant(header_of(request), clock.now())


@dataclass(frozen=True)
class _CallerWith:
    scope: Scope | None

    @property
    def need(self) -> Need:
        """For whoever lists what routes ask."""
        return Need(None if self.scope is None else Permission(self.scope))

    async def __call__(self, request: Request, record: Annotated[KeyRecord, Depends(authenticate)]) -> KeyRecord:
        """The caller, having shown what the route asks. What asks for nothing is open to confined keys, too."""
        if self.scope is not None:
            # An API key manages all keys or none.
            require(record, "keys" if self.scope == "own_keys" and record.user is None else self.scope)
            require_endpoint(record, request.url.path)
        return record


def manages_all_keys(record: KeyRecord) -> bool:
    """Whether the caller sees and ends every key of the tenant, or those that they made."""
    return "keys" in record.scopes


Parts = Annotated[Gateway, Depends(gateway)]
AnyCaller = Annotated[KeyRecord, Depends(_CallerWith(None))]
InferenceCaller = Annotated[KeyRecord, Depends(_CallerWith("inference"))]
UsageCaller = Annotated[KeyRecord, Depends(_CallerWith("usage"))]
AccountCaller = Annotated[KeyRecord, Depends(_CallerWith("account"))]
KeysCaller = Annotated[KeyRecord, Depends(_CallerWith("own_keys"))]

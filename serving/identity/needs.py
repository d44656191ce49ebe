"""How a FastAPI route says what its caller must be allowed to do, so that the gateway enforces and documents one thing.

A dependency that carries a `need` is a declaration. Every route has at least one (a test looks at all of them); a route
for everybody says so with `PUBLIC`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext

from serving.identity.permissions import Permission, roles_with, scopes_with


@dataclass(frozen=True, slots=True)
class Need:
    """A permission; None: any caller with a key or a role in a tenant, or nobody in particular when `public`."""

    permission: Permission | None
    public: bool = False


class _Everybody:
    need = Need(None, public=True)

    def __call__(self) -> None:
        """Nothing is asked."""


PUBLIC = Depends(_Everybody())


def needs_of(route: RouteContext) -> frozenset[Need]:
    """Everything that a route asks of its caller; empty for one that has declared nothing."""
    dependant: Dependant | None = getattr(route, "dependant", None)
    return frozenset() if dependant is None else frozenset(_needs(dependant))


def _needs(dependant: Dependant) -> Iterator[Need]:
    need = getattr(dependant.call, "need", None)
    if need is not None:
        yield need
    for child in dependant.dependencies:
        yield from _needs(child)


def described(needs: frozenset[Need]) -> dict[str, Any]:
    """The same in an OpenAPI operation: fields for programs. A public route carries no security."""
    if any(need.public for need in needs):
        return {"security": []}
    permissions = [need.permission for need in needs if need.permission is not None]
    return {
        "security": [{"bearer": []}],
        "x-required-scope": scopes_with(permissions),
        "x-required-role": roles_with(permissions),
    }


def in_words(operation: dict[str, Any]) -> str:
    """The same for people."""
    if not operation["security"]:
        return "Needs no key."
    scopes = operation["x-required-scope"]
    of_key = "an API key" if len(scopes) > 1 else f"an API key with the scope `{scopes[0]}`"
    return f"Needs {of_key}, or one of the roles {', '.join(operation['x-required-role'])}."

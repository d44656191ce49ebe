"""Who may do what: the one table of scopes (of keys) and roles (of people). Pure.

A role belongs to a tenant, or holds everywhere: what a tenant's finance may read is that tenant's, what our own finance
may read is everybody's. Operators exist only everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType


class Permission(StrEnum):
    """What a route can ask for. Those of a tenant have the name of the key's scope that gives them."""

    INFERENCE = "inference"  # tokens, files, batches, fine-tunes
    USAGE = "usage"  # what the tenant has used
    ACCOUNT = "account"  # invoices, balance and statement of the tenant
    OWN_KEYS = "own_keys"  # keys that the caller has made
    KEYS = "keys"  # all of the tenant's keys
    READ = "read"  # everything that operators see
    BILLING = "billing"  # seal usage, order and approve invoices, change terms, set budgets
    OPERATE = "operate"  # everything else that operators change


class Role(StrEnum):
    """What a person is in a tenant, or everywhere."""

    OWNER = "owner"
    DEVELOPER = "developer"
    FINANCE = "finance"
    OPS = "ops"
    AUDITOR = "auditor"


_OF_OPERATORS = frozenset({Permission.READ, Permission.BILLING, Permission.OPERATE})

OF_SCOPE = MappingProxyType(
    {
        "inference": frozenset({Permission.INFERENCE}),
        "usage": frozenset({Permission.USAGE}),
        "account": frozenset({Permission.ACCOUNT}),
        "keys": frozenset({Permission.OWN_KEYS, Permission.KEYS}),
        "admin": _OF_OPERATORS,
    }
)
IN_TENANT = MappingProxyType(
    {
        Role.OWNER: frozenset(
            {Permission.INFERENCE, Permission.USAGE, Permission.ACCOUNT, Permission.OWN_KEYS, Permission.KEYS}
        ),
        Role.DEVELOPER: frozenset({Permission.INFERENCE, Permission.USAGE, Permission.OWN_KEYS}),
        Role.FINANCE: frozenset({Permission.USAGE, Permission.ACCOUNT}),
        Role.AUDITOR: frozenset({Permission.USAGE, Permission.ACCOUNT}),
    }
)
EVERYWHERE = MappingProxyType(
    {
        Role.OPS: _OF_OPERATORS,
        Role.FINANCE: frozenset({Permission.READ, Permission.BILLING}),
        Role.AUDITOR: frozenset({Permission.READ}),
    }
)


def of_scopes(scopes: Iterable[str]) -> frozenset[Permission]:
    """What a key with these scopes may do."""
    return frozenset().union(*(OF_SCOPE[scope] for scope in scopes))


def in_tenant(roles: Iterable[Role]) -> frozenset[Permission]:
    """What somebody with these roles may do in that tenant."""
    return frozenset().union(*(IN_TENANT.get(role, frozenset()) for role in roles))


def everywhere(roles: Iterable[Role]) -> frozenset[Permission]:
    """What somebody with these roles may do on the operators' routes."""
    return frozenset().union(*(EVERYWHERE.get(role, frozenset()) for role in roles))


def roles_with(permissions: Iterable[Permission]) -> list[str]:
    """Which roles have all of these, by name; the wider ones with a note of where they hold."""
    wanted = frozenset(permissions)
    tenants = [str(role) for role, held in IN_TENANT.items() if wanted <= held]
    ours = [f"{role} (everywhere)" for role, held in EVERYWHERE.items() if wanted <= held]
    return tenants + ours if wanted else list(map(str, IN_TENANT))


def scopes_with(permissions: Iterable[Permission]) -> list[str]:
    """Which scopes of a key have all of these."""
    wanted = frozenset(permissions)
    return [scope for scope, held in OF_SCOPE.items() if wanted <= held]

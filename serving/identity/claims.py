"""What a verified token says about its bearer, in our words. Pure: claims in, a sign-in out.

Keycloak's shape is the default (`realm_access.roles`); which claims are read is a setting. Roles that hold everywhere
have names of their own in a token, so that a forgotten tenant claim never turns a customer into an operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.identity.permissions import Role

_GROUP = "/tenants/"
_IN_TENANT = {str(role): role for role in (Role.OWNER, Role.DEVELOPER, Role.FINANCE, Role.AUDITOR)}
_EVERYWHERE = {"ops": Role.OPS, "platform-finance": Role.FINANCE, "platform-auditor": Role.AUDITOR}


@dataclass(frozen=True, slots=True)
class SignIn:
    """Somebody whose token is good. Issuer and subject are the identity; mail and name are for people to read."""

    issuer: str
    subject: str
    email: str | None
    name: str | None
    tenants: frozenset[str]  # by slug, known here or not
    roles: frozenset[Role]  # in those tenants
    everywhere: frozenset[Role]

    @property
    def actor(self) -> str:
        """Who did it, in the audit log and on approvals."""
        identity = f"oidc:{self.issuer}#{self.subject}"
        return f"{identity} ({self.email})" if self.email else identity


def read_claims(claims: Mapping[str, Any], tenant_claim: str, roles_claim: str) -> SignIn:
    """The sign-in behind a verified token."""
    roles = _texts(_at(claims, roles_claim))
    email = claims.get("email")
    name = claims.get("name") or claims.get("preferred_username")
    return SignIn(
        issuer=claims["iss"],
        subject=claims["sub"],
        # Roles are granted by address, so one that anybody may enter is none.
        email=email if isinstance(email, str) and claims.get("email_verified") is True else None,
        name=name if isinstance(name, str) else None,
        tenants=frozenset(filter(None, map(_slug, _texts(_at(claims, tenant_claim))))),
        roles=frozenset(_IN_TENANT[role] for role in roles if role in _IN_TENANT),
        everywhere=frozenset(_EVERYWHERE[role] for role in roles if role in _EVERYWHERE),
    )


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, else what a dotted path leads to: names may themselves be URLs with dots."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _texts(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in values if isinstance(one, str)]


def _slug(text: str) -> str | None:
    """`acme` or the group `/tenants/acme`; other groups, and those below, are not ours."""
    slug = text.removeprefix(_GROUP)
    return None if "/" in slug else slug or None

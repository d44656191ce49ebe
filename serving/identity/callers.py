"""From the `Authorization` header to a caller: a key by its text, a person by a token of the OpenID provider, or by the
session of their browser (`serving/sign_in`), whose cookie was put into that header.

Everything below sees one kind of tenant's caller, a `KeyRecord`: a person is the key that stands for them in a tenant,
with what their roles allow. So usage, limits, budgets, batches and revocation work for people as they do for keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from serving.identity import permissions
from serving.identity.claims import SignIn, read_claims
from serving.identity.directory import Directory
from serving.identity.permissions import Permission, Role
from serving.identity.provider import Provider
from serving.identity.sign_ins import SignIns
from serving.identity.uses import KeyUses
from serving.keys import KeyRecord, Keys
from studio import ids
from studio.errors import InvalidRequest, InvalidToken, PermissionDenied

Header = Callable[[bytes], str | None]  # by name in lower case


@dataclass(frozen=True, slots=True)
class Operator:
    """The caller of an operators' route: named in the audit log and on approvals."""

    actor: str
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class People:
    """How people are recognised, where a provider is set."""

    provider: Provider
    tenant_claim: str
    roles_claim: str

    async def who(self, token: str) -> SignIn:
        """InvalidToken when it is not good."""
        return read_claims(await self.provider.verify(token), self.tenant_claim, self.roles_claim)


class Session(Protocol):
    """Somebody signed in in a browser, as far as callers go."""

    @property
    def person(self) -> SignIn:
        """With the roles of the sign-in."""

    @property
    def tenant(self) -> str | None:
        """Which one they chose."""


class Sessions(Protocol):
    """`serving/sign_in/sessions.py`."""

    async def find(self, secret: str, now: datetime) -> Session:
        """InvalidToken when there is none."""


class Guests(Protocol):
    """`serving/try_it`: visitors without a name."""

    def guest(self, authorization: str) -> KeyRecord | None:
        """The key of all visitors, for requests that the try-it box itself has made."""


class Callers:
    """One per process."""

    def __init__(
        self,
        keys: Keys,
        uses: KeyUses,
        directory: Directory,
        sign_ins: SignIns,
        people: People | None,
        sessions: Sessions,
        guests: Guests,
    ) -> None:
        self._keys = keys
        self._uses = uses
        self._directory = directory
        self._sign_ins = sign_ins
        self._people = people
        self._sessions = sessions
        self._guests = guests

    async def in_tenant(self, header: Header, now: datetime) -> KeyRecord:
        """The caller of a tenant's route."""
        authorization = header(b"authorization")
        if (guest := self._guests.guest(authorization or "")) is not None:
            return guest
        if (secret := session_secret(authorization)) is not None:
            session = await self._sessions.find(secret, now)
            named = header(b"openai-organization")
            chosen = named or session.tenant
            if named is None and chosen not in self.places(session.person):
                chosen = None  # the role there has gone since
            record = await self._person(session.person, chosen)
        elif (token := _token(authorization)) is not None:
            record = await self._person(await self._who(token), header(b"openai-organization"))
        else:
            record = self._keys.authenticate(authorization, now)
        self._uses.note(record.id, now)
        return record

    async def operator(self, header: Header, now: datetime) -> Operator:
        """The caller of an operators' route; with no permissions at all for somebody who is none."""
        authorization = header(b"authorization")
        if (secret := session_secret(authorization)) is not None:
            person = (await self._sessions.find(secret, now)).person
        elif (token := _token(authorization)) is not None:
            person = await self._who(token)
        else:
            record = self._keys.authenticate(authorization, now)
            self._uses.note(record.id, now)
            return Operator(record.actor, permissions.of_scopes(record.scopes))
        await self._sign_ins.known(person, None, self._claimed(person))
        return Operator(person.actor, permissions.everywhere(self.roles_everywhere(person)))

    async def user_of(self, person: SignIn) -> UUID:
        """Written down, and known by this id from then on."""
        return (await self._sign_ins.known(person, None, self._claimed(person), anew=True)).user_id

    def places(self, person: SignIn) -> dict[str, frozenset[Role]]:
        """The open tenants in which somebody has roles, by slug."""
        return {self._directory.slug_of(tenant): frozenset(roles) for tenant, roles in self._roles(person).items()}

    def roles_everywhere(self, person: SignIn) -> frozenset[Role]:
        """What somebody is on the operators' routes."""
        return person.everywhere | self._directory.granted(person.issuer, person.subject).get(None, frozenset())

    def tenant_named(self, slug: str) -> UUID | None:
        """The open tenant of that name."""
        return self._directory.tenant_named(slug)

    async def _who(self, token: str) -> SignIn:
        if self._people is None:
            raise InvalidToken("People cannot sign in here (no OpenID provider is set). Use an API key: `xpu_...`.")
        return await self._people.who(token)

    async def _person(self, person: SignIn, organization: str | None) -> KeyRecord:
        claimed, roles = self._claimed(person), self._roles(person)
        if not roles:
            known = await self._sign_ins.known(person, None, claimed)
            raise PermissionDenied(
                "You are signed in but have no role in a tenant. Ask your operator for one and name your user id,"
                f" {ids.to_wire(ids.USER, known.user_id)}."
            )
        slug, tenant_id = self._chosen(roles, organization)
        known = await self._sign_ins.known(person, tenant_id, claimed)
        record = None if known.key_id is None else self._keys.personal(known.key_id)
        if record is None:
            # Made a moment ago and not in the snapshot yet, or revoked: the database knows.
            known = await self._sign_ins.known(person, tenant_id, claimed, anew=True)
            if known.is_ended:
                raise PermissionDenied(
                    "An operator has ended your access to this tenant. Ask your operator to grant it again."
                )
            assert known.key_id is not None
            assert known.prefix is not None
            record = KeyRecord(known.key_id, known.prefix, tenant_id, slug, frozenset(), None)
        return replace(record, scopes=permissions.in_tenant(roles[tenant_id]), user=person.actor)

    def _roles(self, person: SignIn) -> dict[UUID, set[Role]]:
        roles: dict[UUID, set[Role]] = {}
        for tenant_id, role in (*self._claimed(person), *self._granted(person)):
            if tenant_id is not None:
                roles.setdefault(tenant_id, set()).add(role)
        return roles

    def _claimed(self, person: SignIn) -> list[tuple[UUID | None, Role]]:
        """What the token says, of tenants that there are."""
        tenants = list(filter(None, map(self._directory.tenant_named, person.tenants)))
        in_tenants = ((tenant, role) for tenant in tenants for role in person.roles)
        return [*in_tenants, *((None, role) for role in person.everywhere)]

    def _granted(self, person: SignIn) -> Iterable[tuple[UUID | None, Role]]:
        places = self._directory.granted(person.issuer, person.subject)
        return ((tenant, role) for tenant, roles in places.items() for role in roles)

    def _chosen(self, roles: dict[UUID, set[Role]], organization: str | None) -> tuple[str, UUID]:
        names = {self._directory.slug_of(tenant): tenant for tenant in roles}
        if organization:
            if organization not in names:
                raise PermissionDenied(f"You have no role in `{organization}`, only in {', '.join(sorted(names))}.")
            return organization, names[organization]
        if len(names) > 1:
            raise InvalidRequest(
                f"You have roles in {', '.join(sorted(names))}. Say which you act for, in the header"
                " `OpenAI-Organization` (`organization` in OpenAI's SDKs)."
            )
        return next(iter(names.items()))


def session_secret(authorization: str | None) -> str | None:
    """What the cookie held, where the front has put it."""
    scheme, _, text = (authorization or "").partition(" ")
    return text if scheme == "Session" else None


def _token(authorization: str | None) -> str | None:
    """A JSON Web Token has three parts between dots; a key has none."""
    if authorization is None or authorization.count(".") != 2:
        return None
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None

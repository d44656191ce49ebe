"""The probes. Each tries what must not work and, as a control, what must: a door shut to everybody proves nothing.

A probe whose control cannot be had is skipped and says why; it never passes. Nothing of a customer is changed or read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import httpx

from serving.isolation.back_door import BackDoor
from serving.isolation.canaries import Canary
from serving.isolation.estate import Estate
from serving.isolation.front_door import FrontDoor
from studio import clock, ids

Subject = Literal["rows", "files", "batches", "fine_tunes", "responses", "adapters", "keys", "usage", "cache"]
Result = Literal["passed", "failed", "skipped"]

_NOT_ANSWERED = frozenset({401, 429, 500, 502, 503, 504})  # nobody was told anything; but see `_call`
_WORDS = 150  # some hundred tokens: several of the blocks that engines keep, and within every model's context
_CACHE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """One claim and what came of trying to break it."""

    subject: Subject
    claim: str
    result: Result
    observed: str
    at: datetime


def of_canaries(
    stranger: Canary,
    owner: Canary,
    theirs: FrontDoor,
    own: FrontDoor,
    rows: BackDoor,
    estate: Estate,
    model: str | None,
) -> Iterator[Probe]:
    """One canary tries to reach what is the other's. The key that it tries to revoke is the last thing."""
    yield from _rows(rows, stranger.tenant_id, owner.tenant_id)
    yield _thing("files", f"/v1/files/{estate.file}", theirs, own)
    yield _thing("files", f"/v1/files/{estate.file}/content", theirs, own)
    yield _listed("files", "/v1/files", estate.file, theirs, own)
    yield _thing("batches", f"/v1/batches/{estate.batch}", theirs, own)
    yield _listed("batches", "/v1/batches", estate.batch, theirs, own)
    yield _thing("fine_tunes", f"/v1/fine_tuning/jobs/{estate.fine_tune}", theirs, own)
    yield _listed("fine_tunes", "/v1/fine_tuning/jobs", estate.fine_tune, theirs, own)
    yield _response(estate.response, theirs, own)
    yield _thing("adapters", f"/v1/models/{estate.model}", theirs, own)
    yield _listed("adapters", "/v1/models", estate.model, theirs, own)
    yield _call(estate.model, theirs, own)
    yield _usage(theirs, own)
    yield _cache(model, theirs, own)
    key = ids.to_wire(ids.API_KEY, owner.key_id)
    yield _listed("keys", "/v1/keys", key, theirs, own)
    yield _revocation(key, theirs, own)


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant that gets a certificate, and names of its own things, newest first; None where it has none."""

    tenant_id: UUID
    slug: str
    file: str | None
    model: str | None
    keys: frozenset[str]


def of_customer(customer: Customer, stranger: Canary, door: FrontDoor, rows: BackDoor) -> Iterator[Probe]:
    """The canary tries to reach what is a customer's; what a customer does not have is not probed.

    That the customer itself can reach it is known from its rows.
    """
    if has := rows.own(customer.tenant_id):
        seen = rows.seen_of(stranger.tenant_id, customer.tenant_id)
        claim = "another tenant's transaction sees none of your rows"
        observed = f"seen: {_names(seen)}; you have rows in: {_names(has)}"
        yield _verdict("rows", claim, is_broken=bool(seen), observed=observed)
    things: tuple[tuple[Subject, str, str | None], ...] = (
        ("files", "/v1/files/", customer.file),
        ("adapters", "/v1/models/", customer.model),
    )
    for subject, path, name in things:
        if name is not None:
            status = door.status("GET", path + name)
            claim = f"the newest of your {subject} does not exist for another tenant"
            yield hidden(subject, claim, status, f"GET {path}{name}: {status} for the other tenant")
    if customer.keys:
        listed = customer.keys & {key["id"] for key in door.read("/v1/keys")["data"]}
        claim = "another tenant's list of keys has none of yours"
        observed = f"listed: {_names(sorted(listed))}; you have {len(customer.keys)}"
        yield _verdict("keys", claim, is_broken=bool(listed), observed=observed)


def _rows(rows: BackDoor, stranger: UUID, owner: UUID) -> Iterator[Probe]:
    has, seen = rows.own(owner), rows.seen_of(stranger, owner)
    yield _verdict(
        "rows",
        "a transaction of one tenant sees no row of the other",
        is_broken=bool(seen),
        observed=f"seen: {_names(seen)}; the owner sees its rows in: {_names(has)}",
        skipped=None if has else "the owner has no rows",
    )
    foreign, anybodys = rows.of_others(stranger), rows.without_a_tenant()
    where = f"of {len(rows.tables)} tables"
    yield _verdict(
        "rows",
        "a transaction of one tenant sees no row of anybody else",
        is_broken=bool(foreign),
        observed=f"seen: {_names(foreign)} {where}",
    )
    yield _verdict(
        "rows",
        "a transaction without a tenant sees no row at all",
        is_broken=bool(anybodys),
        observed=f"seen: {_names(anybodys)} {where}",
    )


def _thing(subject: Subject, path: str, theirs: FrontDoor, own: FrontDoor) -> Probe:
    control, status = own.status("GET", path), theirs.status("GET", path)
    return hidden(
        subject,
        "what is one tenant's does not exist for another",
        status,
        f"GET {path}: {status} for the stranger, {control} for the owner",
        None if control == 200 else "the owner itself does not get it",
    )


def _listed(subject: Subject, path: str, id: str, theirs: FrontDoor, own: FrontDoor) -> Probe:
    """Lists are pages, newest first, but for those that are told whole; what the owner has is on its first."""
    is_seen = id in {one["id"] for one in theirs.read(path)["data"]}
    is_there = id in {one["id"] for one in own.read(path)["data"]}
    return _verdict(
        subject,
        "what is one tenant's is in no list of another",
        is_broken=is_seen,
        observed=f"GET {path}: {_listed_or_not(is_seen)} for the stranger, {_listed_or_not(is_there)} for the owner",
        skipped=None if is_there else "it is not in the owner's own list",
    )


def _response(id: str | None, theirs: FrontDoor, own: FrontDoor) -> Probe:
    if id is None:
        return _skipped("responses", "what is one tenant's does not exist for another", "no chat model was warm")
    return _thing("responses", f"/v1/responses/{id}", theirs, own)


def _call(model: str, theirs: FrontDoor, own: FrontDoor) -> Probe:
    """It has no weights, so its owner hears that no engine runs it. That would be news to the stranger."""
    path, body = "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    told, control = (door.send(path, body) for door in (theirs, own))
    claim, known = "nobody but its tenant can call a fine-tuned model", _code(control) != "model_not_found"
    observed = f"POST {path}: {told.status_code} {_code(told)} for the stranger, {_code(control)} for the owner"
    if known and _code(told) == _code(control):
        return _verdict("adapters", claim, is_broken=True, observed=observed)
    why = None if known else "the owner cannot name it either"
    return hidden("adapters", claim, told.status_code, observed, why)


def _usage(theirs: FrontDoor, own: FrontDoor) -> Probe:
    claim = "one tenant reads nothing of what another has used"
    by_key = "/v1/usage?group_by=key"
    used = [row["key"] for row in own.read(by_key)["data"]]
    if not used:
        return _skipped("usage", claim, "the owner has used nothing in 30 days")
    seen = theirs.read(f"{by_key}&key={used[0]}")["data"]
    return _verdict(
        "usage", claim, is_broken=bool(seen), observed=f"GET {by_key}: {len(seen)} rows of the owner's for the stranger"
    )


def _cache(model: str | None, theirs: FrontDoor, own: FrontDoor) -> Probe:
    claim = "a prompt of one tenant is not found in the engine's cache by another"
    if model is None:
        return _skipped("cache", claim, "no chat model is warm: closed or cold")
    for _ in range(_CACHE_TRIES):  # with several replicas the second request may meet another one
        prompt = " ".join(secrets.token_hex(3) for _ in range(_WORDS))
        found = [_cached(door, model, prompt) for door in (own, own, theirs)]
        if None in found:
            return _skipped("cache", claim, f"`{model}` stopped answering")
        first, again, foreign = found
        if foreign or again:
            break
    return _verdict(
        "cache",
        claim,
        is_broken=bool(foreign),
        observed=f"`{model}`, cached tokens: {first} at first, {again} for its owner again, {foreign} for the stranger",
        skipped=None if again else "the owner did not find its own prompt either",
    )


def _cached(door: FrontDoor, model: str, prompt: str) -> int | None:
    """Without a chat's template: its beginning is every tenant's own, from the night before."""
    answer = door.ask("/v1/completions", {"model": model, "prompt": prompt, "max_tokens": 1})
    if answer is None:
        return None
    return (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def _revocation(key: str, theirs: FrontDoor, own: FrontDoor) -> Probe:
    claim = "nobody revokes another tenant's key"
    status, still = theirs.status("DELETE", f"/v1/keys/{key}"), own.status("GET", "/v1/keys")
    observed = f"DELETE: {status} for the stranger; the key is answered with {still} afterwards"
    if still == 401:
        return _verdict("keys", claim, is_broken=True, observed=observed)
    return hidden("keys", claim, status, observed)


def hidden(subject: Subject, claim: str, status: int, observed: str, skipped: str | None = None) -> Probe:
    """Whether a stranger heard nothing but 404. That something is forbidden says that it is there."""
    if status in _NOT_ANSWERED:
        return _verdict(subject, claim, is_broken=False, observed=observed, skipped="the stranger got no answer")
    return _verdict(subject, claim, is_broken=status != 404, observed=observed, skipped=skipped)


def _verdict(subject: Subject, claim: str, *, is_broken: bool, observed: str, skipped: str | None = None) -> Probe:
    """Broken isolation is told whatever the control says."""
    result: Result = "failed" if is_broken else "passed" if skipped is None else "skipped"
    told = f"{skipped}; {observed}" if result == "skipped" else observed
    return Probe(subject, claim, result, told, clock.now())


def _skipped(subject: Subject, claim: str, why: str) -> Probe:
    return Probe(subject, claim, "skipped", why, clock.now())


def _code(answer: httpx.Response) -> str:
    return str(answer.json().get("error", {}).get("code")) if answer.status_code >= 400 else "answered"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def _listed_or_not(is_listed: bool) -> str:
    return "listed" if is_listed else "not listed"

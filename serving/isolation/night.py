"""One night: open the canaries, probe, close them, and give every tenant its certificate."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, or_, select, text
from sqlalchemy.orm import Session

from serving.isolation import certificate, probes
from serving.isolation.back_door import BackDoor
from serving.isolation.canaries import Canary, canaries
from serving.isolation.certificate import Night
from serving.isolation.estate import estate
from serving.isolation.front_door import FrontDoor
from serving.isolation.probes import Customer, Probe
from studio import clock, ids
from studio.db.jobs import Adapter, File
from studio.db.sessions import unit_of_work
from studio.db.tenancy import ApiKey, Tenant
from studio.signing import Signer


@dataclass(frozen=True)
class Prober:
    """What it works with: both roles of the database, the gateway's address, and the key to sign with."""

    worker: Engine
    gateway: Engine
    gateway_url: str
    signer: Signer


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a night."""

    night: Night
    issued: dict[str, certificate.Result]  # by tenant
    own: dict[str, list[Probe]]  # of each tenant's own things

    @property
    def result(self) -> certificate.Result:
        """Of all probes together."""
        return certificate.result_of((*self.night.probes, *(one for own in self.own.values() for one in own)))


def certify(prober: Prober) -> Report:
    """Probe and sign. An error that is no finding (no gateway, no database) is raised: nobody gets a certificate."""
    began_at, rows = clock.now(), BackDoor(prober.gateway)
    with (
        canaries(prober.worker) as (stranger, owner),
        FrontDoor(prober.gateway_url, stranger.key) as theirs,
        FrontDoor(prober.gateway_url, owner.key) as own,
    ):
        with unit_of_work(prober.worker) as session:
            customers, versions = _customers(session), _versions(session, own)
        found = {customer: list(probes.of_customer(customer, stranger, theirs, rows)) for customer in customers}
        night = Night(began_at, _among_canaries(prober, stranger, owner, theirs, own, rows), versions)
    ended_at, issued = clock.now(), {}
    for customer, of_it in found.items():
        with unit_of_work(prober.worker) as session:
            issued[customer.slug] = certificate.issue(session, customer, night, of_it, ended_at, prober.signer)
    return Report(night, issued, {customer.slug: of_it for customer, of_it in found.items()})


def _among_canaries(
    prober: Prober, stranger: Canary, owner: Canary, theirs: FrontDoor, own: FrontDoor, rows: BackDoor
) -> list[Probe]:
    model = _warm_chat_model(own)
    with estate(prober.worker, owner, own, model) as things:
        own.wait_for(f"/v1/models/{things.model}")
        return list(probes.of_canaries(stranger, owner, theirs, own, rows, things, model))


def _warm_chat_model(door: FrontDoor) -> str | None:
    listed = door.read("/v1/models")["data"]
    warm = (model["id"] for model in listed if (model["task"], model["state"]) == ("chat", "warm"))
    return next(warm, None)


def _customers(session: Session) -> list[Customer]:
    """Every open tenant that is not ours."""
    tenants = select(Tenant.id, Tenant.slug).where(Tenant.closed_at.is_(None), ~Tenant.is_internal).order_by(Tenant.id)
    lives = or_(File.expires_at.is_(None), File.expires_at > clock.now())
    files = select(File.tenant_id, File.id).where(File.deleted_at.is_(None), lives).distinct(File.tenant_id)
    file_of = dict(session.execute(files.order_by(File.tenant_id, File.id.desc())).tuples().all())
    models = select(Adapter.tenant_id, Adapter.name).where(Adapter.deleted_at.is_(None)).distinct(Adapter.tenant_id)
    model_of = dict(session.execute(models.order_by(Adapter.tenant_id, Adapter.id.desc())).tuples().all())
    keys_of: dict[UUID, set[str]] = defaultdict(set)
    for tenant_id, key_id in session.execute(select(ApiKey.tenant_id, ApiKey.id)).tuples():
        keys_of[tenant_id].add(ids.to_wire(ids.API_KEY, key_id))
    return [
        Customer(
            id,
            slug,
            ids.to_wire(ids.FILE, file_of[id]) if id in file_of else None,
            model_of.get(id),
            frozenset(keys_of[id]),
        )
        for id, slug in session.execute(tenants).tuples()
    ]


def _versions(session: Session, door: FrontDoor) -> dict[str, str]:
    """What was probed."""
    return {
        "gateway": door.read("/openapi.json")["info"]["version"],
        "schema": session.execute(text("select version_num from alembic_version")).scalar_one(),
        "postgresql": session.execute(text("show server_version")).scalar_one(),
    }

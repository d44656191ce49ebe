"""What a fresh stack needs before anybody can use it by its API: an administrator's key, and the embedded weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from sqlalchemy import select

from local.api import Api
from local.stack import Stack
from local.weights_push import push
from studio import ids
from studio.db.sessions import engine_for, unit_of_work
from studio.db.tenancy import Tenant
from studio.errors import StudioError
from studio.settings import REPOSITORY
from studio.tenants import create_key

HOUSE = "house"  # the operators' own tenant: it holds administrators' keys and is never billed
EMBEDDED_MODELS = REPOSITORY / "build" / "models"
EMBEDDED = ("smollm2-135m-instruct", "all-minilm-l6-v2")

_CATALOG_SECONDS = 180.0


class CatalogNotSynced(StudioError):
    """Dagster has not brought the catalog into the database."""


def ensure_admin_key(stack: Stack) -> None:
    """Mint the first administrator's key, once. It is the only key that is not made through the API."""
    path = stack.paths.admin_key
    if path.exists():
        return
    engine = engine_for(stack.database_url("operator"), pool_size=1)
    try:
        with unit_of_work(engine) as session:
            house = session.scalar(select(Tenant).where(Tenant.slug == HOUSE))
            if house is None:
                house = Tenant(id=ids.uuid7(), slug=HOUSE, name="Operators of this installation", is_internal=True)
                session.add(house)
                session.flush()
            created = create_key(session, house.id, "studio up", "studio up", scopes=["admin"])
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(created.text)
    except BaseException:
        path.unlink(missing_ok=True)  # a key that was not committed would be refused for ever
        raise
    finally:
        engine.dispose()


def ensure_embedded_weights(api: Api, say: Callable[[str], None]) -> None:
    """Push the embedded models' weights when the object store lacks them. Waits for the first catalog sync."""
    _wait_for_catalog(api, say)
    for model in EMBEDDED:
        folder = EMBEDDED_MODELS / model
        if folder.is_dir():
            push(api, folder, model, say)


def _wait_for_catalog(api: Api, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _CATALOG_SECONDS
    while not set(EMBEDDED) <= set(catalog_models(api)):
        say("waiting for Dagster's first catalog sync")
        if time.monotonic() > deadline:
            raise CatalogNotSynced(
                f"the catalog was not synchronised within {_CATALOG_SECONDS:.0f} s; see `studio logs dagster-daemon`"
            )
        time.sleep(0.5)


def catalog_models(api: Api) -> list[str]:
    """The ids that the gateway knows."""
    return [model["id"] for model in api.get("/v1/models")["data"]]

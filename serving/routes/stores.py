"""What tenants' routes keep things in: the database in the gateway's role, and the object store."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from studio.objects import ObjectStore
from studio.settings import settings


def tenant_database(request: Request) -> Engine:
    """For `tenant_scope`: without one, the role sees no row."""
    database: Engine = request.app.state.database
    return database


@cache
def object_store() -> ObjectStore:
    """The object store of the settings."""
    return ObjectStore.from_settings(settings())


TenantDatabase = Annotated[Engine, Depends(tenant_database)]
Objects = Annotated[ObjectStore, Depends(object_store)]

"""Who calls in the soak: one tenant that nothing stops, one that meets its limit, one whose budget ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from benchmarks import catalog
from studio.db.sessions import engine_for, unit_of_work
from tests.server import TestDatabase

CHAT = "chat"
EMBEDDING = "embedding"


@dataclass(slots=True)
class Tenants:
    """Filled by `declare`."""

    keys: list[str] = field(default_factory=list, repr=False)
    replicas: list[UUID] = field(default_factory=list)  # in the order of their engines

    @property
    def unlimited(self) -> str:
        """The key of the tenant that nothing stops."""
        return self.keys[0]


def declare(tenants: Tenants, engines: Sequence[str], database: TestDatabase) -> str:
    """Three tenants, a chat model on all engines but the last, and an embedding model on that."""
    owner = engine_for(database.url("owner"))
    with unit_of_work(owner) as session:
        catalog.add_seller(session)
        plenty = catalog.PLENTY
        tenants.keys = [
            catalog.add_tenant(session, "unlimited", requests_per_second=plenty, budget=plenty),
            catalog.add_tenant(session, "limited", requests_per_second=10, budget=plenty),
            # A EUR for a million tokens: this ends within the first minutes, and the rest is refused.
            catalog.add_tenant(session, "poor", requests_per_second=plenty, budget=1),
        ]
        tenants.replicas = [
            *catalog.add_model(session, CHAT, engines[:-1]),
            *catalog.add_model(session, EMBEDDING, engines[-1:], task="embedding"),
        ]
    owner.dispose()
    return tenants.unlimited

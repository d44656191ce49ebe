"""Keys that attached engines ask for, sealed at rest. They belong to this installation, not to a tenant."""

from __future__ import annotations

from uuid import UUID

from studio.sealing import Seal

_NO_TENANT = UUID(int=0)


def close(seal: Seal, replica_id: UUID, key: str) -> bytes:
    """The key, sealed for one replica."""
    return seal.close(_NO_TENANT, replica_id.bytes, key.encode())


def open_header(seal: Seal, replica_id: UUID, sealed: bytes) -> str:
    """What is sent as `Authorization`. `Unreadable` if it was sealed with another secret or for another replica."""
    return f"Bearer {seal.open(_NO_TENANT, replica_id.bytes, sealed).decode()}"

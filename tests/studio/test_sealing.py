"""What is kept for a tenant opens for that tenant, in its place, with its key, and not otherwise."""

from __future__ import annotations

import pytest

from studio import ids
from studio.sealing import Seal, Unreadable

TENANT, OTHER = ids.uuid7(), ids.uuid7()
SEAL = Seal(b"a secret of the tests")


def test_opens_what_it_closed() -> None:
    sealed = SEAL.close(TENANT, b"row 1", "Grüße, 世界".encode())
    assert SEAL.open(TENANT, b"row 1", sealed).decode() == "Grüße, 世界"
    assert "Grüße".encode() not in sealed


def test_the_same_text_never_looks_the_same() -> None:
    assert SEAL.close(TENANT, b"row 1", b"text") != SEAL.close(TENANT, b"row 1", b"text")


def test_another_tenant_place_or_secret_cannot_open_it() -> None:
    sealed = SEAL.close(TENANT, b"row 1", b"text")
    for tenant, context, seal in (
        (OTHER, b"row 1", SEAL),
        (TENANT, b"row 2", SEAL),
        (TENANT, b"row 1", Seal(b"another secret")),
    ):
        with pytest.raises(Unreadable):
            seal.open(tenant, context, sealed)


@pytest.mark.parametrize("damage", [b"", b"\x01short", b"\x02" + bytes(40), b"\x01" + bytes(40)])
def test_a_damaged_value_is_noticed(damage: bytes) -> None:
    with pytest.raises(Unreadable):
        SEAL.open(TENANT, b"row 1", damage)

"""Fixtures of the money tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.billing.books import Books
from tests.server import TestDatabase


@pytest.fixture
def books(database: TestDatabase) -> Iterator[Books]:
    """A database with a small catalog and one engine."""
    books = Books(database)
    books.open()
    yield books
    books.close()

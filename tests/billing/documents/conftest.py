"""Rules are compiled once a session: it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from billing.documents.schematron import Schematron, schematron


@pytest.fixture(scope="session")
def official() -> Iterator[Schematron]:
    """The official rules, in their worker."""
    with schematron() as judge:
        yield judge

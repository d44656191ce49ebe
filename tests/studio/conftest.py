"""Fixtures of the ground floor's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio.settings import REPOSITORY


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the repository's catalog that a test may spoil."""
    return Path(shutil.copytree(REPOSITORY / "catalog", tmp_path / "catalog"))

"""The version that the API and isolation certificates name is the project's."""

from __future__ import annotations

import tomllib

from studio import VERSION
from studio.settings import REPOSITORY


def test_it_is_that_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION

"""The console in a real browser, on a real gateway: its pages in three languages, and what a person does with them.

The tests themselves are TypeScript, in `console/tests`. `CONSOLE_MATRIX=full` (`make browser`) plays every page in each
language, width and brightness. Screenshots are left in `build/console-shots`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from local.objects import EmbeddedObjectStore
from studio.settings import REPOSITORY
from tests.console.stage import BUILT, Stage, play, staged
from tests.server import TestServer
from tests.serving.conftest import furnished

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1_800)]

RESULTS = REPOSITORY / "build" / "console-shots"
_CHROMIUM = os.environ.get("CONSOLE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def needed() -> dict[str, str]:
    """The environment of a browser test. On a machine without the means it says so; in CI that is a failure."""
    if not (BUILT / "site.json").is_file():
        missing = "The console is not built: `make console` (needs Node.js 20)."
    elif _CHROMIUM is None:
        missing = "Chromium is missing: `apt-get install chromium fonts-noto-cjk`, or set CONSOLE_CHROMIUM to another."
    else:
        return os.environ | {"CONSOLE_CHROMIUM": _CHROMIUM, "CONSOLE_RESULTS": str(RESULTS)}
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="module")
def stage(
    server: TestServer, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One for all: a browser test asks for little of it."""
    needed()
    with furnished(server) as house, staged(house, objects, tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def test_pages_and_playground(stage: Stage) -> None:
    played = play(stage, "--project=browser", environment=needed())
    print(played.stdout)
    assert played.returncode == 0, played.stdout + played.stderr


def test_money_streams_and_code_of_the_pages() -> None:
    played = play(None, "--project=plain", environment=needed())
    assert played.returncode == 0, played.stdout + played.stderr

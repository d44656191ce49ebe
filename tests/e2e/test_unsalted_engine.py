"""The control of `test_isolation.py`: were the salt left out, the hits would be there, and that test would see them.

It asks the engine past the gateway, which the engine counts and nobody else, so that nothing could be reconciled after
it: the tests of this folder run in the order of their files, and this is the last.
"""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Cloud
from tests.e2e.test_isolation import Asker, prompt
from tests.e2e.test_main_job import CHAT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_without_the_salt_the_same_engine_does_share(cloud: Cloud, told: str) -> None:
    ((url, model),) = cloud.query(
        "select url, engine_model from replicas where variant_id = %s and state = 'ready'", CHAT
    )
    engine = Asker(url, model)
    text = prompt(2_000)
    tokens, cached, _ = engine.ask(text)
    assert cached < 64
    _, shared, _ = engine.ask(text)
    engine.close()
    assert shared > 0.9 * tokens

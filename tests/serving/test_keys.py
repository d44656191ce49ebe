"""The snapshot of API keys."""

from __future__ import annotations

import pytest

from serving.keys import Keys
from studio import api_keys, clock
from studio.errors import InvalidApiKey, ServiceUnavailable


def test_before_the_first_reading_a_good_key_is_asked_to_wait_and_not_refused() -> None:
    with pytest.raises(ServiceUnavailable, match="is starting"):
        Keys().authenticate(f"Bearer {api_keys.mint().text}", clock.now())


def test_a_mistyped_key_is_refused_even_then() -> None:
    with pytest.raises(InvalidApiKey, match="cut or mistyped"):
        Keys().authenticate("Bearer xpu_mistyped", clock.now())

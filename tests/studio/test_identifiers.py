"""Ids and keys: their form, their order, and what mistyping does."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import api_keys, clock, ids


def test_uuid7_has_version_and_variant() -> None:
    made = ids.uuid7()
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_uuid7_holds_its_instant() -> None:
    before = clock.now()
    made = ids.uuid7()
    assert abs(ids.instant_of(made) - before) < timedelta(seconds=1)
    assert ids.day_utc_of(made) == ids.instant_of(made).date()


def test_ids_of_a_process_are_distinct_and_grow() -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [ids.uuid7() for _ in range(500)], range(8)))
    assert all(batch == sorted(batch) for batch in batches)
    assert len({id for batch in batches for id in batch}) == 4000


@pytest.mark.parametrize("back", [timedelta(milliseconds=2), timedelta(hours=3)])
def test_ids_follow_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch, back: timedelta) -> None:
    real = time.time_ns
    first = ids.uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: real() - back // timedelta(microseconds=1) * 1000)
    before, made, again = clock.now() - back, ids.uuid7(), ids.uuid7()
    assert before - timedelta(milliseconds=1) <= ids.instant_of(made) <= clock.now() - back
    assert again > made
    assert len({first, made, again}) == 3


def test_an_id_survives_the_wire() -> None:
    made = ids.uuid7()
    assert ids.from_wire(ids.TENANT, ids.to_wire(ids.TENANT, made)) == made


@pytest.mark.parametrize("text", ["", "tnt_", "inv_" + "0" * 32, "tnt_xyz", "tnt_../../etc/passwd"])
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="id"):
        ids.from_wire(ids.TENANT, text)


def test_a_key_has_a_findable_prefix_and_is_kept_as_a_hash() -> None:
    minted = api_keys.mint()
    assert re.fullmatch(r"xpu_[0-9A-Za-z]{41}", minted.text)
    assert minted.text.startswith(minted.prefix)
    assert minted.secret_hash == api_keys.digest(minted.text)
    assert minted.text not in repr(minted)


@given(st.integers(4, 44), st.sampled_from("0Oo1lIaZ9"))
def test_a_mistyped_key_is_recognised_without_the_database(position: int, other: str) -> None:
    text = api_keys.mint().text
    mistyped = text[:position] + other + text[position + 1 :]
    assert api_keys.is_well_formed(text)
    assert api_keys.is_well_formed(mistyped) == (mistyped == text)
    assert not api_keys.is_well_formed(text[:position])


@pytest.mark.parametrize("text", ["sk-proj-abc", "xpu_", "xpu_" + "ä" * 41, ""])
def test_another_vendors_key_is_not_ours(text: str) -> None:
    assert not api_keys.is_well_formed(text)

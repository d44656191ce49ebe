"""Data sets: what is wrong is said with its line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.fine_tuning.dataset import DatasetInvalid, DatasetSizeWrong, count_examples
from studio.fine_tuning.hyperparameters import Hyperparameters
from studio.fine_tuning.lines import MOST_LINE_BYTES

USER = {"role": "user", "content": "two red chairs"}
ANSWER = {"role": "assistant", "content": '{"item": "chairs"}'}


def line(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"messages": list(messages), **fields}).encode() + b"\n"


GOOD = line(USER, ANSWER)


def test_good_lines_are_counted_and_blank_ones_are_not() -> None:
    system = {"role": "system", "content": "Answer in JSON."}
    rows = [line(system, USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1}), b"\n", *[GOOD] * 11]
    assert count_examples(rows) == 12


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{]\n", "not JSON"),
        (b"\xff\xfe\n", "not UTF-8"),
        (GOOD.decode().encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
        (GOOD.replace(b", ", b",\r"), "carriage return"),
        (b'{"messages": ' + b"[" * 100_000, "nested too deeply"),
        (line(USER, ANSWER | {"weight": 7}).replace(b"7", b"7" * 5000), "too many digits"),
        (line(USER | {"content": "\ud83d"}, ANSWER), "messages[0]: `content` has half of a surrogate pair"),
        (line(USER | {"name": [[["x"]]]}, ANSWER), "messages[0]: `name` must be a string"),
        (b"[1]\n", "non-empty list `messages`"),
        (line(), "non-empty list `messages`"),
        (line(USER, ANSWER, tools=[]), "'tools' is not supported"),
        (line({"role": "wizard", "content": "x"}, ANSWER), "messages[0]: the role must be one of"),
        (line(USER | {"content": ""}, ANSWER), "messages[0]: `content`"),
        (line(USER | {"content": ["x"]}, ANSWER), "messages[0]: `content`"),
        (line(USER, ANSWER, USER), "the last message must be the assistant's"),
        (line(USER, ANSWER | {"weight": 0}), "left to learn"),
        (line(USER | {"weight": 1}, ANSWER), "`weight` is 0 or 1"),
        (line(USER, ANSWER | {"tool_calls": []}), "'tool_calls' is not supported"),
        (line(USER, "hello"), "messages[1] is no object"),
        (line(USER | {"content": "x" * MOST_LINE_BYTES}, ANSWER), "longer than"),
    ],
)
def test_a_broken_line_is_named_with_its_number_and_reason(bad: bytes, reason: str) -> None:
    with pytest.raises(DatasetInvalid) as invalid:
        count_examples([*[GOOD] * 6, bad, *[GOOD] * 6])
    (finding,) = invalid.value.findings
    assert finding.line == 7
    assert reason in finding.reason
    assert "line 7: " in invalid.value.message


def test_lines_may_end_as_on_windows() -> None:
    assert count_examples([GOOD.replace(b"\n", b"\r\n")] * 10) == 10


@pytest.mark.parametrize(
    "bad",
    [
        line({"role": "role of the secret", "content": "x"}, ANSWER),
        line(USER | {"content": {"x": "the secret"}}, ANSWER),
        b'{"messages": "the secret \\q"}\n',
        line(USER, ANSWER, **{"x" * 40 + "the secret": 1}),
        line(USER | {"x" * 40 + "the secret": 1}, ANSWER),
    ],
)
def test_a_finding_repeats_nothing_but_the_start_of_a_name(bad: bytes) -> None:
    with pytest.raises(DatasetInvalid) as invalid:
        count_examples([bad])
    assert "secret" not in invalid.value.message


def test_a_name_that_no_database_keeps_is_escaped() -> None:
    with pytest.raises(DatasetInvalid) as invalid:
        count_examples([line(USER, ANSWER, **{"a\0\udc00\u4f60": 1})])
    assert r"'a\x00\udc00\u4f60' is not supported" in invalid.value.message


def test_many_broken_lines_are_listed_up_to_a_limit() -> None:
    with pytest.raises(DatasetInvalid) as invalid:
        count_examples([b"x\n"] * 50)
    assert len(invalid.value.findings) == 20
    assert "50 invalid lines" in invalid.value.message
    assert "30 more" in invalid.value.message


@pytest.mark.parametrize("examples", [0, 9])
def test_too_few_examples_are_refused(examples: int) -> None:
    with pytest.raises(DatasetSizeWrong, match=f"has {examples} examples"):
        count_examples([GOOD] * examples)


class TestHyperparameters:
    def test_auto_reads_small_sets_more_often(self) -> None:
        assert Hyperparameters.resolve({}, 10) == Hyperparameters(25, 1, 1.0)
        assert Hyperparameters.resolve({}, 100) == Hyperparameters(3, 1, 1.0)
        assert Hyperparameters.resolve({"n_epochs": "auto"}, 10_000) == Hyperparameters(1, 20, 1.0)

    def test_what_was_asked_for_stands(self) -> None:
        asked = {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 2.0}
        assert Hyperparameters.resolve(asked, 128) == Hyperparameters(2, 8, 2.0)

    def test_large_models_take_smaller_steps(self) -> None:
        chosen = Hyperparameters(1, 8, 2.0)
        assert chosen.learning_rate(270_000_000) == pytest.approx(2e-3)
        assert chosen.learning_rate(65_600_000_000) == pytest.approx(4e-4)

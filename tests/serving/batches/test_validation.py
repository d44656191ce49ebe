"""What a batch file must look like: every mistake is named with its line, before anything runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batches.lines import LINE_BYTES, read_lines
from serving.batches.planner import BYTES_MOST, LINES_MOST, LineAt, plan, runs
from serving.batches.validation import FINDINGS_MOST, TEXT_LENGTH, Finding, Validated, finding, validate
from serving.batches.validation import LINES_MOST as BATCH_LINES_MOST
from serving.fleet.view import Adapter, Fleet, Variant
from serving.tokens.wire import CHAT as CHAT_ENDPOINT
from serving.tokens.wire import EMBEDDINGS
from studio import ids
from tests.serving.batches.orders import line, results, submit, wait_for_state
from tests.serving.batches.worker_process import Workers
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING
from tests.serving.images.pictures import data_url, png


def variant(id: str, task: str = "chat") -> Variant:
    return Variant(
        id=id, model_id=id, name=id, publisher="p", task=task, tier="base", licence="l", licence_url="u",  # type: ignore[arg-type]
        context_tokens=100, max_output_tokens=None, deployed=True, served_by=None, takes_adapters=False, sunset_on=None,
        notice=None, listed_at=datetime(2026, 1, 1, tzinfo=UTC), site_replicas=1, closed_replicas=0,
        calendar_id=None, desired_replicas=1, warmup_seconds=[],
    )  # fmt: skip


TENANT = ids.uuid7()
TUNED = Adapter(ids.uuid7(), TENANT, CHAT, f"ft:{CHAT}:acme::1", "id-hash", datetime(2026, 1, 1, tzinfo=UTC), [])
FLEET = Fleet(
    variants={one.id: one for one in (variant(CHAT), variant(CHAT_FAST), variant(EMBEDDING, "embedding"))},
    adapters={TUNED.name: TUNED},
)
GOOD = line("good")
REMOTE_IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
SMALL_IMAGE = {"type": "image_url", "image_url": {"url": data_url(png(8, 8))}}


def judged(
    *lines: str | bytes, endpoint: str = "chat", tenant: UUID = TENANT, models: list[str] | None = None
) -> Validated | tuple[Finding, ...]:
    text = b"\n".join(one.encode() if isinstance(one, str) else one for one in lines)
    asked = EMBEDDINGS if endpoint == "embeddings" else CHAT_ENDPOINT
    return validate(read_lines([text]), asked, FLEET, tenant, models)


def test_a_key_that_is_confined_to_other_models_cannot_use_this_one_in_a_batch_either() -> None:
    found = judged(GOOD, models=[CHAT_FAST])
    assert isinstance(found, tuple)
    assert [(one.code, one.line, one.param) for one in found] == [("permission_denied", 1, "body.model")]
    assert isinstance(judged(GOOD, models=[CHAT]), Validated)


@pytest.mark.parametrize(
    ("bad", "code", "param", "words"),
    [
        ("{", "invalid_json_line", None, "not valid JSON"),
        ("[1]", "invalid_json_line", None, "not a JSON object"),
        (b'{"custom_id": "\xff"}', "invalid_json_line", None, "not valid JSON"),
        (line("x", extra=json.loads("[" * 270 + "]" * 270)), "invalid_json_line", None, "nested too deeply"),
        (line("x", model="no\0such"), "model_not_found", "model", "`no\ufffdsuch`"),
        ("{}", "missing_required_parameter", "custom_id", "`custom_id`"),
        (json.dumps({"custom_id": 7}), "invalid_type", "custom_id", "must be a string"),
        (line(""), "invalid_request", "custom_id", "1 to 512 characters"),
        (line("x", method="GET"), "invalid_method", "method", "must be POST"),
        (line("x", url="/v1/embeddings"), "mismatched_endpoint", "url", "this batch is for"),
        (json.dumps({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"}),
         "missing_required_parameter", "body", "`body`"),
        (line("x", stream=True), "stream_not_supported", "body.stream", "cannot stream"),
        (line("x", model="no-such"), "model_not_found", "model", "does not exist"),
        (line("x", model=EMBEDDING), "model_not_supported", "body.model", "is for embedding"),
        (line("x", model=CHAT_FAST), "mismatched_model", "body.model", "the same model"),
        (line("x", messages=[]), "invalid_request", "messages", "messages"),
        (line("x", messages=[{"role": "user", "content": [REMOTE_IMAGE]}]), "invalid_request",
         "messages[0].content[0].image_url", "must be `data:` URLs"),
        (line("x", messages=[{"role": "user", "content": [SMALL_IMAGE] * 21}]), "invalid_image_url",
         "messages[0].content[20].image_url", "at most 20 images"),
        (line("x", temperature=9), "invalid_request", "temperature", "temperature"),
        (line("good"), "duplicate_custom_id", "custom_id", "already used in line 1"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(bad: str | bytes, code: str, param: str | None, words: str) -> None:
    findings = judged(GOOD, "", bad, line("also good"))
    assert isinstance(findings, tuple)
    (finding,) = findings
    assert (finding.line, finding.code, finding.param) == (3, code, param)
    assert words in finding.message


def test_a_finding_can_be_stored_whatever_it_quotes() -> None:
    (found,) = _findings(judged(line("x", model="m" * 1_000_000)))
    assert len(found.message) == TEXT_LENGTH
    assert finding("c", "a\0b\ud800c", param="\0" * 1_000) == Finding(
        "c", "a\ufffdb\ufffdc", None, "\ufffd" * TEXT_LENGTH
    )


def test_a_fine_tuned_model_is_a_model_of_its_own_and_its_tenants_only() -> None:
    own = line("tuned", model=TUNED.name)
    verdict = judged(own)
    assert isinstance(verdict, Validated)
    assert verdict.target.adapter == TUNED
    assert [finding.code for finding in _findings(judged(own, tenant=ids.uuid7()))] == ["model_not_found"]
    assert [finding.code for finding in _findings(judged(GOOD, own))] == ["mismatched_model"]


def test_a_mark_carriage_returns_blank_lines_and_a_missing_end_are_tolerated() -> None:
    verdict = judged(b"\xef\xbb\xbf" + GOOD.encode() + b"\r", b"", b"  \r", line("next"))
    assert isinstance(verdict, Validated)
    assert [one.number for one in verdict.lines] == [1, 4]


def test_an_empty_file_and_too_many_lines_are_refused() -> None:
    assert [finding.code for finding in _findings(judged("", "  "))] == ["empty_file"]
    many = validate(
        read_lines(line(str(n)).encode() + b"\n" for n in range(BATCH_LINES_MOST + 1)), CHAT_ENDPOINT, FLEET, TENANT
    )
    assert [finding.code for finding in _findings(many)] == ["too_many_requests"]


def test_too_many_inputs_of_embeddings_are_refused() -> None:
    lines = [line(str(n), url="/v1/embeddings", model=EMBEDDING, input=["x"] * 2_000, messages=None) for n in range(26)]
    assert [finding.code for finding in _findings(judged(*lines, endpoint="embeddings"))] == ["too_many_inputs"]


def test_a_line_without_end_is_refused_in_bounded_memory() -> None:
    pieces = (b"x" * 100_000 for _ in range(10 * LINE_BYTES // 100_000))
    findings = validate(read_lines(pieces), CHAT_ENDPOINT, FLEET, TENANT)
    assert [(finding.code, finding.line) for finding in _findings(findings)] == [("line_too_long", 1)]
    assert next(pieces, None) is not None  # it was not read to its end


def test_a_file_full_of_mistakes_is_not_listed_whole() -> None:
    assert len(_findings(judged(*["{"] * 1_000))) == FINDINGS_MOST


@given(st.lists(st.sampled_from([b"", b"a", b"bc\r", b"  ", b"\xef\xbb\xbfd"]), max_size=20), st.integers(1, 9))
def test_lines_are_the_same_however_the_bytes_are_cut(texts: list[bytes], size: int) -> None:
    data = b"\n".join(texts)
    whole = list(read_lines([data]))
    assert list(read_lines(data[at : at + size] for at in range(0, len(data), size))) == whole
    for one in whole:
        again = list(read_lines([data[one.byte_from : one.byte_until]], one.number, one.byte_from))
        assert again == [one]


@given(st.lists(st.integers(1, 3 * BYTES_MOST // 2), min_size=1, max_size=5 * LINES_MOST), st.data())
def test_every_line_lies_in_one_shard(sizes: list[int], data: st.DataObject) -> None:
    lines, position = [], 0
    for number, size in enumerate(sizes, start=1):
        lines.append(LineAt(number, position, position + size))
        position += size
    spans = plan(lines)
    assert [n for span in spans for n in range(span.line_from, span.line_until)] == [one.number for one in lines]
    assert all(span.line_until - span.line_from <= LINES_MOST for span in spans)
    assert [span.byte_from for span in spans[1:]] == [span.byte_until for span in spans[:-1]]
    some = [one for one in lines if data.draw(st.booleans())]
    assert [n for span in runs(some) for n in range(span.line_from, span.line_until)] == [one.number for one in some]


def test_a_customer_reads_what_is_wrong_with_the_file(sdk: openai.OpenAI, batch_workers: Workers) -> None:
    batch = submit(sdk, [line("a"), "{", line("a"), line("b", model="\0")])
    batch_workers.drain()
    failed = wait_for_state(sdk, batch, "failed")
    assert failed.failed_at is not None
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [(error.line, error.code) for error in failed.errors.data] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "model_not_found"),
    ]
    assert results(sdk, failed.output_file_id) == results(sdk, failed.error_file_id) == []
    with pytest.raises(openai.ConflictError, match="cannot be cancelled"):
        sdk.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_file_id": "file-0"}, "input_file_id"),
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "169h"}, "completion_window"),
        ({"completion_window": "1d"}, "completion_window"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x"),
        ({"metadata": {"x": "a\0b"}}, "metadata.x"),
        ({"metadata": {"a\0b": "x"}}, "metadata.a\0b.[key]"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
    ],
)
def test_a_wrong_order_is_refused_at_once(sdk: openai.OpenAI, changes: dict[str, object], param: str) -> None:
    file = sdk.files.create(file=("a.jsonl", GOOD.encode()), purpose="batch")
    order = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | changes
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.batches.create(**order)  # type: ignore[arg-type]  # wrong on purpose
    assert refused.value.param == param


def test_a_file_for_something_else_is_no_batch(sdk: openai.OpenAI) -> None:
    file = sdk.files.create(file=("a.jsonl", GOOD.encode()), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="has the purpose `fine-tune`"):
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def test_a_line_may_have_as_many_images_as_a_request() -> None:
    assert isinstance(judged(line("x", messages=[{"role": "user", "content": [SMALL_IMAGE] * 20}])), Validated)


def _findings(verdict: Validated | tuple[Finding, ...]) -> tuple[Finding, ...]:
    assert isinstance(verdict, tuple)
    return verdict

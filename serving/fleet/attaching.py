"""What an engine that somebody else runs must show before it becomes a replica: its name for the weights, and that what
it answers can be metered. It is asked as callers' requests will ask it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import orjson

from serving.tokens.engine_refusals import read_refusal
from serving.tokens.engine_request import PRIORITY
from serving.tokens.usage import StreamMeter, TokenCounts, read_usage
from studio.errors import InvalidRequest

if TYPE_CHECKING:
    import httpx

LIST_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # of two tokens, on an engine that may be busy

# `running`: by what it tells with each token. `end`: it tells usage with a stream's end only, so a stream whose caller
# leaves is heard to its end and billed whole. `whole`: it only reads, and tells usage with each answer.
Metering = Literal["running", "end", "whole"]


@dataclass(frozen=True, slots=True)
class Found:
    """An engine that may be attached."""

    engine_model: str
    metering: Metering


def look_at(url: str, key: str | None, wanted: str | None, task: str) -> Found:
    """Ask the engine at `url`, with the key that it will be asked with. InvalidRequest says what is missing there."""
    import httpx  # a client of 2 MiB, for a moment of a gateway's life

    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    # A connection for each request: some engines end one after its answer without saying so.
    alone = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, headers=headers, timeout=LIST_SECONDS, limits=alone, trust_env=False) as engine:
        name = _served_model(engine, url, key, wanted)
        engine.timeout = ANSWER_SECONDS
        try:
            return Found(name, _metering(engine, name, task))
        except httpx.HTTPError as error:
            raise _unfit(f"it did not answer a short request: {error or type(error).__name__}") from error


def _served_model(engine: httpx.Client, url: str, key: str | None, wanted: str | None) -> str:
    import httpx

    try:
        answer = engine.get("/v1/models")
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            what = "asks for a key: give it as `engine_key`" if key is None else "refused this key"
            raise InvalidRequest(f"the engine at {url} {what} (status {answer.status_code})", param="engine_key")
        answer.raise_for_status()
        names: list[str] = [model["id"] for model in answer.json()["data"]]
        first = names[0]
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidRequest(f"the engine at {url} did not list its models: {error}", param="url") from error
    if wanted is not None and wanted not in names:
        raise InvalidRequest(
            f"the engine at {url} does not serve {wanted!r}; it serves {', '.join(names[:10])}", param="engine_model"
        )
    return wanted or first


def _metering(engine: httpx.Client, name: str, task: str) -> Metering:
    if task == "embedding":
        _whole(engine, "/v1/embeddings", {"model": name, "input": "one"})
        return "whole"
    asked: dict[str, Any] = {"model": name, "max_tokens": 2}
    if task == "completion":
        path, asked = "/v1/completions", asked | {"prompt": "one"}
    else:
        path, asked = "/v1/chat/completions", asked | {"messages": [{"role": "user", "content": "one"}]}
    _whole(engine, path, asked)
    return _streamed(engine, path, asked)


def _whole(engine: httpx.Client, path: str, asked: dict[str, Any]) -> None:
    answer = engine.post(path, json=asked | _steered())
    _require_answered(answer, path, asked)
    try:
        counts = read_usage(answer.json()["usage"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unfit(f"its answers at {path} have no `usage`, so nothing of them could be billed") from error
    _require_sensible(counts, path)


def _streamed(engine: httpx.Client, path: str, asked: dict[str, Any]) -> Metering:
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = engine.post(path, json=asked | _steered() | {"stream": True, "stream_options": options})
    _require_answered(answer, path, asked)
    events = [line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")]
    if events[-1:] != ["[DONE]"]:
        raise _unfit(f"its streams at {path} do not end with `data: [DONE]`, so nobody knows when one is whole")
    meter = StreamMeter(1)
    try:
        for event in events[:-1]:
            meter.observe(orjson.loads(event))
        counts = meter.counts()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unfit(f"its streams at {path} cannot be read: {type(error).__name__}") from error
    if counts is None:
        raise _unfit(
            f"its streams at {path} tell no `usage` though asked (`stream_options.include_usage`), so nothing of them"
            " could be billed"
        )
    _require_sensible(counts, path)
    return "running" if meter.is_running else "end"


def _steered() -> dict[str, Any]:
    """What each request of ours brings. An engine that refuses it would refuse them all."""
    return {"priority": PRIORITY["base"], "cache_salt": "attach"}


def _require_answered(answer: httpx.Response, path: str, asked: dict[str, Any]) -> None:
    if answer.status_code == HTTPStatus.OK:
        return
    said = read_refusal(answer.content, asked | _steered()).message[:300]
    way_out = " Start it with `--scheduling-policy priority`." if "priority" in said.lower() else ""
    raise _unfit(f"it refused a short request at {path} ({answer.status_code}: {said}).{way_out}")


def _require_sensible(counts: TokenCounts, path: str) -> None:
    if counts.prompt < 1 or (path != "/v1/embeddings" and counts.completion < 1):
        raise _unfit(
            f"the `usage` of its answers at {path} is {counts.prompt} tokens read and {counts.completion} written,"
            " which cannot be"
        )


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest(f"This engine cannot be attached: {why.removesuffix('.')}.", param="url")

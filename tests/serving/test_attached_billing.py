"""What is billed of a stream that its caller leaves, by what its engine tells and how it is reached: an engine that
others run need not be vLLM, nor on the same network.

Each test has a model of the catalog to itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, attach, wait_until
from tests.serving.odd_engine import DONE, STREAM, Caller, chunk, closing, odd_engine
from tests.tls import certificate_of

AT_THE_END, RUNNING, BY_TLS, SILENT = "qwen3-32b", "baichuan2-13b-chat", "deepseek-v2-236b", "qwen2-vl-72b"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an engine that is reached by TLS, which the gateway trusts."""
    return certificate_of("localhost", tmp_path_factory.mktemp("tls") / "engine.pem")


@pytest.fixture(scope="module")
def gateway(house: House, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(
        house.database, tmp_path_factory.mktemp("gateway"), settings={"SSL_CERT_FILE": str(certificate)}
    ) as process:
        yield process


@pytest.fixture
def leave(api: httpx.Client) -> Callable[[str], str]:
    """Ask a model for a stream, go away after its first word, and keep the request's id."""

    def leave(model: str) -> str:
        wait_until(lambda: api.get(f"/v1/models/{model}").json()["state"] == "warm")
        body = {"model": model, "messages": [{"role": "user", "content": "one two three"}], "stream": True}
        with api.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert "one" in next(answer.iter_lines())
            return answer.headers["x-request-id"]

    return leave


def billed(house: House, request_id: str) -> ledger.Event:
    """The event of a request, once it is there."""

    def found() -> list[ledger.Event]:
        return [event for event in ledger.events(house.database) if event.request_id == request_id]

    wait_until(lambda: len(found()) == 1)
    return found()[0]


def test_an_engine_that_tells_its_usage_at_the_end_only_is_heard_to_its_end(
    house: House, leave: Callable[[str], str]
) -> None:
    """So its caller pays for what was written, as for an answer that does not stream, and nobody has to guess."""
    others_end, was_heard_out = threading.Event(), []

    def at_the_end(body: dict[str, Any], caller: Caller) -> None:
        caller.send(STREAM + chunk(None, role="assistant", content="one"))
        others_end.wait(30)
        was_heard_out.append(not caller.has_hung_up)
        caller.send(6 * chunk(None, content=" more") + chunk(None, finish="stop") + closing(7, cached=1) + DONE)

    def running(body: dict[str, Any], caller: Caller) -> None:
        caller.send(STREAM + chunk(1, role="assistant", content="one"))
        caller.wait_until_it_hangs_up()
        caller.send(chunk(2, content=" two"))  # what an engine has written when it hears of it

    with odd_engine(at_the_end) as one, odd_engine(running) as other:
        attach(house.operator, one, AT_THE_END)
        attach(house.operator, other, RUNNING)
        heard_out = leave(AT_THE_END)
        hung_up = leave(RUNNING)
        event = billed(house, hung_up)
        assert (event.prompt_tokens, event.completion_tokens, event.end_reason) == (3, 2, "client_left")
        others_end.set()  # the gateway has noticed the later one's leaving, so the earlier one's, too
        event = billed(house, heard_out)
    assert was_heard_out == [True]
    assert (event.prompt_tokens, event.cached_tokens, event.completion_tokens) == (3, 1, 7)
    assert event.end_reason == "client_left"


def test_a_connection_without_halves_is_ended_and_what_had_arrived_is_billed(
    house: House, certificate: Path, leave: Callable[[str], str]
) -> None:
    """TLS: what the engine has on its way at that moment is nobody's."""
    seen = threading.Event()

    def by_tls(body: dict[str, Any], caller: Caller) -> None:
        caller.send(STREAM + chunk(1, role="assistant", content="one") + chunk(2, content=" two"))
        caller.wait_until_it_hangs_up()
        seen.set()

    with odd_engine(by_tls, certificate) as url:
        attach(house.operator, url, BY_TLS)
        event = billed(house, leave(BY_TLS))
        assert seen.wait(10)
    assert (event.prompt_tokens, event.completion_tokens, event.end_reason) == (3, 2, "client_left")


def test_a_stream_that_tells_no_usage_at_all_costs_nobody_anything_and_the_operator_is_told(
    house: House, gateway: GatewayProcess, api: httpx.Client, leave: Callable[[str], str]
) -> None:
    def silent(body: dict[str, Any], caller: Caller) -> None:
        caller.send(STREAM + chunk(None, role="assistant", content="one") + chunk(None, finish="stop") + DONE)

    with odd_engine(silent) as url:
        attach(house.operator, url, SILENT)
        request_id = leave(SILENT)
        wait_until(lambda: "stream_without_usage_not_billed" in gateway.log_path.read_text())
    gateway.stop()  # the last of this file
    assert request_id not in {event.request_id for event in ledger.events(house.database)}

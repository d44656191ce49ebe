"""Clients that people use from Node, unchanged: OpenAI's SDK, LangChain and the AI SDK, in one program (node/)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from studio.settings import REPOSITORY
from tests.serving.conformance.tour import Tour
from tests.serving.gateway_process import CHAT, EMBEDDING

PROGRAM = Path(__file__).parent / "node" / "clients.mjs"
FIVE = "word " * 5


@pytest.fixture(scope="module")
def said(tour: Tour) -> dict[str, Any]:
    """What the program has been told, by client."""
    subprocess.run(["make", "--silent", "build/node_clients/.ready"], cwd=REPOSITORY, check=True)
    argv = ["node", str(PROGRAM), str(REPOSITORY / "build" / "node_clients"), f"{tour.url}/v1", tour.keys["all"]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


class TestOpenAI:
    @pytest.fixture
    def sdk(self, said: dict[str, Any]) -> Any:
        """Its part."""
        return said["openai"]

    def test_chat_whole_and_streamed(self, sdk: Any) -> None:
        assert (sdk["whole"]["text"], sdk["whole"]["usage"]["completion_tokens"]) == (FIVE, 5)
        assert sdk["whole"]["request"].startswith("req_")
        assert (sdk["stream"]["text"], sdk["stream"]["ends"]) == (FIVE, ["stop"])
        counts = ("prompt_tokens", "completion_tokens", "total_tokens")
        assert [sdk["stream"]["usage"][name] for name in counts] == [sdk["whole"]["usage"][name] for name in counts]

    def test_a_tool_is_called(self, sdk: Any) -> None:
        assert sdk["called"]["type"] == "function"
        assert sdk["called"]["function"]["name"] == "weather"
        assert isinstance(json.loads(sdk["called"]["function"]["arguments"]), dict)

    def test_packed_embeddings_are_the_plain_ones(self, sdk: Any) -> None:
        packed, plain = sdk["embeddings"]["packed"], sdk["embeddings"]["plain"]
        assert len(packed) == 2
        assert [len(one) for one in packed] == [len(one) for one in plain]
        for one, other in zip(packed, plain, strict=True):
            assert one == pytest.approx(other, rel=1e-6)

    def test_files_and_batches(self, sdk: Any) -> None:
        assert sdk["file"]["content"] == sdk["file"]["sent"]
        assert sdk["batch"][0] is True
        assert sdk["batch"][1] in ("cancelling", "cancelled")

    def test_responses(self, sdk: Any) -> None:
        assert sdk["responses"]["text"] == sdk["responses"]["kept"] == FIVE
        assert sdk["responses"]["items"] == 1
        events = sdk["responses"]["events"]
        assert (events[0], events[-1]) == ("response.created", "response.completed")
        assert "response.output_text.delta" in events

    def test_models(self, sdk: Any) -> None:
        assert {CHAT, EMBEDDING} <= set(sdk["listed"])

    def test_refusals_are_the_sdks_own_errors_and_say_what_to_do(self, sdk: Any) -> None:
        assert [(one["is"], one["status"], one["code"]) for one in sdk["refusals"]] == [
            ("NotFoundError", 404, "model_not_found"),
            ("BadRequestError", 400, "invalid_request"),
            ("AuthenticationError", 401, "invalid_api_key"),
            ("NotFoundError", 404, "not_found"),
        ]
        assert "`GET /v1/models` lists" in sdk["refusals"][0]["message"]


def test_langchain(said: dict[str, Any]) -> None:
    heard = said["langchain"]
    assert heard["text"] == heard["streamed"] == FIVE
    assert heard["usage"]["output_tokens"] == 5
    assert heard["called"] == ["weather"]
    assert heard["vectors"] == [len(one) for one in said["openai"]["embeddings"]["plain"]]


def test_the_ai_sdk(said: dict[str, Any]) -> None:
    heard = said["ai"]
    assert heard["text"] == heard["streamed"] == FIVE
    assert heard["usage"]["outputTokens"] == heard["streamUsage"]["outputTokens"] == 5
    assert heard["called"] == ["weather"]
    assert heard["vectors"] == [len(one) for one in said["openai"]["embeddings"]["plain"]]

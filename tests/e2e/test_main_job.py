"""The main job on the real engine, as `make demo` plays it, and what must hold around it."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionFunctionToolParam

from local.demo.auditor import Auditor
from local.demo.batch_scene import human_eval
from local.demo.cast import QUESTION
from local.demo.finetune_scene import EXAMPLES
from local.demo.orders import training_examples
from tests.e2e.conftest import Cloud
from tests.serving.responses import strict

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

CHAT = "smollm2-135m-instruct"


@pytest.fixture
def key(cloud: Cloud, told: str) -> str:
    """A key of the demo's customer, known to the gateway."""
    text: str = cloud.studio("key", "create", "--tenant", "demo", "--name", "e2e")["key"]
    eventually(lambda: authenticates(cloud, text), "the gateway knows the new key")
    return text


def eventually(check: Callable[[], bool], claim: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {claim}"
        time.sleep(0.2)


def client(cloud: Cloud, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{cloud.status['gateway_url']}/v1", max_retries=0, timeout=120)


def authenticates(cloud: Cloud, key: str) -> bool:
    try:
        client(cloud, key).models.list()
    except openai.APIError:
        return False
    return True


def events_of(cloud: Cloud, key: str) -> list[tuple[str, int]]:
    return cloud.query(
        "select request_id, count(*) from usage_events"
        " where api_key_id = (select id from api_keys where prefix = %s) group by 1",
        key[:12],
    )


def test_the_story_is_told_to_its_end(told: str) -> None:
    scenes = re.findall(r"✓ \[(\d+)/(\d+)\]", told)
    assert scenes
    assert [int(number) for number, _ in scenes] == list(range(1, int(scenes[0][1]) + 1))
    assert re.search(r"XDE-\d{4}-\d{6}", told)
    assert re.search(r"XCN-\d{4}-\d{6}", told)


def test_it_can_be_told_again_and_reuses_what_is_there(cloud: Cloud, told: str) -> None:
    first = re.search(r"(XDE-\d{4}-\d{6})", told)
    result = cloud.run("--short", module="local.demo", timeout=1100)
    assert result.returncode == 0, result.stdout + result.stderr
    second = re.search(r"(XDE-\d{4}-\d{6})", result.stdout)
    assert first is not None
    assert second is not None
    assert second[1] > first[1]


def test_every_service_is_up(cloud: Cloud, told: str) -> None:
    states = {name: service["state"] for name, service in cloud.status["services"].items()}
    assert set(states.values()) <= {"ready", "done"}, states


def test_several_choices_are_counted_as_the_engine_counts_them(cloud: Cloud, key: str) -> None:
    """vLLM reports a prompt once and counts it once for each choice; both must stay in agreement with our events."""
    answer = client(cloud, key).chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Say something."}], max_tokens=6, n=3
    )
    assert answer.usage is not None
    assert len(answer.choices) == 3
    eventually(lambda: len(events_of(cloud, key)) == 1, "the request is in the database")
    auditor = Auditor(cloud.status["database_url"])
    eventually(lambda: all(total.agree for total in auditor.engine_totals()), "events equal the engines' counters")
    [(request_id, _)] = events_of(cloud, key)
    billed = cloud.query("select prompt_tokens, completion_tokens from usage_events where request_id = %s", request_id)
    assert billed == [(answer.usage.prompt_tokens, answer.usage.completion_tokens)]


def test_responses_are_told_by_the_same_engine(cloud: Cloud, key: str) -> None:
    """What the stub engine shows at length, once with vLLM: events, a continuation, a schema, the count of a prompt."""
    url, headers = f"{cloud.status['gateway_url']}/v1/responses", {"authorization": f"Bearer {key}"}
    asked: dict[str, Any] = {"model": CHAT, "instructions": "Be brief.", "input": "Name a city.", "temperature": 0}
    schema = {"type": "object", "properties": {"big": {"type": "boolean"}}, "required": ["big"]}
    form = {"type": "json_schema", "name": "city", "strict": True, "schema": schema | {"additionalProperties": False}}

    def ask(path: str = "", **fields: Any) -> httpx.Response:
        return httpx.post(url + path, json=asked | fields, headers=headers, timeout=120)

    counted = ask("/input_tokens").json()["input_tokens"]
    told = strict.stream(ask(stream=True, max_output_tokens=8))[-1]["response"]
    assert told["output"][0]["content"][0]["text"]
    assert told["usage"]["input_tokens"] == counted
    continued = {"previous_response_id": told["id"], "text": {"format": form}, "max_output_tokens": 100}
    answer = strict.response(ask(**continued).content)
    assert json.loads(answer["output"][0]["content"][0]["text"]).keys() == {"big"}
    assert answer["usage"]["input_tokens"] > counted
    eventually(lambda: len(events_of(cloud, key)) == 2, "both are in the database, and the count is not")
    auditor = Auditor(cloud.status["database_url"])
    eventually(lambda: all(total.agree for total in auditor.engine_totals()), "events equal the engines' counters")


def test_a_forced_tool_is_called_with_an_object(cloud: Cloud, key: str) -> None:
    """However small the model is: its words are held to the schema by the engine."""
    city = {"city": {"enum": ["Berlin", "Shanghai"]}}
    parameters: dict[str, object] = {"type": "object", "properties": city, "required": ["city"]}
    weather: ChatCompletionFunctionToolParam = {
        "type": "function",
        "function": {"name": "weather", "parameters": parameters},
    }
    answer = client(cloud, key).chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "What is the weather in Berlin?"}],
        tools=[weather],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=60,
    )
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Berlin", "Shanghai")


def test_anthropics_sdk_is_answered_streamed_and_counted(cloud: Cloud, key: str) -> None:
    """The count is the tokenizer's and the usage the engine's: they must be the same number."""
    words: list[MessageParam] = [{"role": "user", "content": "Say something."}]
    gateway_url = cloud.status["gateway_url"]
    with anthropic.Anthropic(base_url=gateway_url, api_key=key, max_retries=0, timeout=120) as claude:
        counted = claude.messages.count_tokens(model=CHAT, messages=words, system="Be brief.")
        with claude.messages.stream(model=CHAT, max_tokens=6, messages=words, system="Be brief.") as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
    assert text
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == counted.input_tokens
    assert message.stop_reason in ("max_tokens", "end_turn")
    eventually(lambda: len(events_of(cloud, key)) == 1, "the message is in the database, and the count is not")


def test_a_final_invoice_can_be_listed_and_fetched(cloud: Cloud, told: str, tmp_path: Path) -> None:
    final = [row for row in cloud.studio("invoice", "list", "--tenant", "demo") if row["state"] == "final"]
    assert final
    target = tmp_path / "invoice.pdf"
    assert cloud.run("invoice", "download", final[0]["id"], "--out", str(target)).returncode == 0
    assert target.read_bytes().startswith(b"%PDF-")


def test_a_killed_gateway_has_billed_every_finished_answer_once(cloud: Cloud, key: str) -> None:
    finished: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = client(cloud, key).chat.completions.with_raw_response.create(
                    model=CHAT, messages=[{"role": "user", "content": "Count to ten."}], max_tokens=12
                )
                request_id = answer.headers["x-request-id"]
                answer.parse()
            except openai.APIError:
                time.sleep(0.2)  # the gateway is away for a moment
            else:
                finished.append(request_id)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(finished) >= 4, "requests are answered", 240)
        os.kill(cloud.status["services"]["gateway"]["pid"], signal.SIGKILL)
        before = len(finished)
        eventually(lambda: len(finished) >= before + 8, "requests are answered again", 240)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    eventually(
        lambda: {id for id, _ in events_of(cloud, key)} >= set(finished), "all finished answers are in the database"
    )
    assert all(count == 1 for _, count in events_of(cloud, key))


def test_an_unknown_model_and_an_unknown_path_are_openai_errors(cloud: Cloud, key: str) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client(cloud, key).chat.completions.create(model="nosuch", messages=[{"role": "user", "content": "hi"}])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client(cloud, key).post("/nosuch", cast_to=object)


def test_a_model_that_is_not_deployed_says_so_at_once(cloud: Cloud, key: str) -> None:
    with pytest.raises(openai.APIStatusError) as asleep:
        client(cloud, key).chat.completions.create(model="qwen3-32b", messages=[{"role": "user", "content": "hi"}])
    assert asleep.value.status_code == 503
    assert asleep.value.code == "model_asleep"
    assert 1 <= int(asleep.value.response.headers["retry-after"]) <= 120


def test_down_leaves_no_process_and_up_finds_everything_again(cloud: Cloud, key: str) -> None:
    events = cloud.query("select count(*) from usage_events")
    pids = [service["pid"] for service in cloud.status["services"].values() if service["pid"]]
    assert cloud.run("down").returncode == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not _processes_of(cloud)
    assert cloud.run("up").returncode == 0
    assert cloud.query("select count(*) from usage_events") >= events
    eventually(lambda: authenticates(cloud, key), "the key still works")


def test_no_log_of_any_service_says_what_anybody_said(cloud: Cloud, told: str) -> None:
    """Gateway, engines, batch workers, Dagster and its runs, the trainer, the servers below them: after the story."""
    logs = {
        path.relative_to(cloud.folder): path.read_text(errors="replace")
        for path in cloud.folder.rglob("*")
        if path.suffix in {".log", ".out", ".err"} and path.is_file()
    }
    services = {name for name, service in cloud.status["services"].items() if service["pid"]}
    assert services <= {path.stem for path in logs}
    assert any("vllm" in text.lower() for text in logs.values()), "the engines' own words"
    assert any(path.suffix == ".err" for path in logs), "what Dagster keeps of its runs"
    asked = {QUESTION, "Name three rivers in Asia", "a very long story about a lighthouse", "Complete this function"}
    asked |= {f"def {task['entry_point']}(" for task in human_eval(64)}
    asked |= {example.text for example in training_examples(EXAMPLES, seed=1)}
    answered = {'"quantity":', '\\"quantity\\":'}  # of every order, in the files that trained
    found = {(str(path), words) for path, text in logs.items() for words in asked | answered if words in text}
    assert found == set()


def _processes_of(cloud: Cloud) -> list[str]:
    """Anything that still names the cloud's folder in its environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if f"STUDIO_STATE_DIR={cloud.folder}".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except (OSError, UnicodeDecodeError):
                continue
    return found

"""The scenes of requests: each goes through OpenAI's SDK and asserts what it saw."""

from __future__ import annotations

from local.bootstrap import EMBEDDED, catalog_models
from local.demo.cast import CHAT, EMBEDDING, ENGINE_SECONDS, FAST, QUESTION, Customer, Demo
from local.demo.story import Facts, Say, expect, shortened, wait_until


def catalog(demo: Demo, say: Say) -> Facts:
    """Dagster has brought the reviewed YAML into the tables."""
    models = catalog_models(demo.api)
    expect({CHAT, FAST, EMBEDDING} <= set(models), "the embedded models are missing from the catalog")
    return {"models for sale": len(models), "of which run here": f"{CHAT}, {FAST}, {EMBEDDING}"}


def engines(demo: Demo, say: Say) -> Facts:
    """The node agent started real vLLM engines and proved them with a real request."""

    def ready() -> bool:
        desired = {row["model"]: row for row in demo.api.get("/admin/v1/fleet")["desired"]}
        waiting = [model for model in EMBEDDED if desired.get(model, {}).get("ready", 0) < 1]
        say(f"waiting for {', '.join(waiting)}")
        return not waiting

    wait_until(ready, "the engines did not become ready; see `studio logs node-agent`", ENGINE_SECONDS)
    return {
        variant: f"weights {weights} s, start {start} s, first token {first} s"
        for variant, weights, start, first in demo.auditor.warmups()
    }


def customer_and_key(demo: Demo, say: Say) -> Facts:
    """A customer of the German entity, billed in euros, and a key of its own."""
    demo.euro.sign_up(demo.api)
    return _who(demo.euro)


def chat(demo: Demo, say: Say) -> Facts:
    """One answer in one piece."""
    answer = demo.euro.client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": QUESTION}], max_tokens=48, temperature=0
    )
    demo.euro.requests += 1
    expect(answer.usage is not None and answer.usage.completion_tokens > 0, "the answer carries no usage")
    assert answer.usage is not None
    return {
        "asked": QUESTION,
        "answered": shortened(answer.choices[0].message.content),
        "usage": f"{answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens, model {answer.model}",
    }


def stream(demo: Demo, say: Say) -> Facts:
    """One answer as it is written, on the fast tier, which shares the engine here."""
    text, usage = "", None
    for chunk in demo.euro.client.chat.completions.create(
        model=FAST,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=48,
        stream=True,
        stream_options={"include_usage": True},
    ):
        expect(chunk.model == FAST, f"a chunk names the model {chunk.model}")
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        say(shortened(text))
    demo.euro.requests += 1
    expect(usage is not None, "the stream ended without the usage that was asked for")
    assert usage is not None
    return {"answered": shortened(text), "usage": f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"}


def abandoned_stream(demo: Demo, say: Say) -> Facts:
    """A client that leaves in mid-stream: the engine stops, and what it had produced is billed."""
    before = demo.auditor.end_reasons(demo.euro.key_prefix).get("client_left", 0)
    received = 0
    with demo.euro.client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Tell me a very long story about a lighthouse."}],
        max_tokens=1500,
        stream=True,
    ) as stream:
        for chunk in stream:
            received += bool(chunk.choices and chunk.choices[0].delta.content)
            if received >= 12:
                break
    demo.euro.requests += 1

    def billed() -> bool:
        return demo.auditor.end_reasons(demo.euro.key_prefix).get("client_left", 0) == before + 1

    wait_until(billed, "the abandoned stream was not metered", 30)
    return {
        "left after": f"{received} pieces of at most 1500 tokens",
        "metered as": "client_left, engine's own count",
    }


def embedding(demo: Demo, say: Say) -> Facts:
    """A vector from the embedding model."""
    answer = demo.euro.client.embeddings.create(model=EMBEDDING, input=["a river in Europe", "a mountain in Asia"])
    demo.euro.requests += 1
    expect(len(answer.data) == 2 and len(answer.data[0].embedding) == 384, "the vectors have another shape")
    return {"vectors": "2 x 384", "usage": f"{answer.usage.prompt_tokens} tokens"}


def second_currency(demo: Demo, say: Say) -> Facts:
    """A customer of the Chinese entity, billed in yuan by days of Shanghai, and usage of its own."""
    customer = demo.yuan
    customer.sign_up(demo.api)
    answer = customer.client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Name three rivers in Asia."}], max_tokens=48, temperature=0
    )
    customer.client.embeddings.create(model=EMBEDDING, input=["a river in Asia"])
    customer.requests += 2
    return {**_who(customer), "answered": shortened(answer.choices[0].message.content)}


def _who(customer: Customer) -> Facts:
    return {
        "tenant": f"{customer.slug}, billed by {customer.legal_entity} in {customer.currency}",
        "key": f"{customer.key_prefix}...",
    }

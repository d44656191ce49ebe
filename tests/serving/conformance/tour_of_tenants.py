"""What a tenant can do, once each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx

from studio import ids
from studio.adapters import ADAPTER_FILES
from studio.objects import Bucket
from tests.serving.batches.orders import line
from tests.serving.conformance.tour import Tour
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING

HELLO: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def walk(tour: Tour) -> None:
    """All of it."""
    _tokens(tour)
    _files(tour)
    _batches(tour)
    _fine_tunes(tour)
    _responses(tour)
    _comparisons(tour)
    _keys_and_webhooks(tour)
    _readings(tour)


def _tokens(tour: Tour) -> None:
    tour.ask("POST /v1/chat/completions", json=HELLO, headers={"idempotency-key": "tour"})
    tour.ask("DELETE /v1/idempotency-keys/{key}", {"key": "tour"})
    tour.ask("POST /v1/completions", json={"model": CHAT, "prompt": "once", "max_tokens": 4})
    tour.ask("POST /v1/embeddings", json={"model": EMBEDDING, "input": "hello"})
    tour.ask("POST /v1/rerank", json={"model": EMBEDDING, "query": "a", "documents": ["a", "b"]})
    tour.ask("POST /v1/score", json={"model": EMBEDDING, "text_1": "a", "text_2": "b"})
    tour.ask("POST /v1/messages", json=HELLO)
    tour.ask("POST /v1/messages/count_tokens", json={name: HELLO[name] for name in ("model", "messages")})
    for root in ("", "/v1"):
        tour.ask(f"POST {root}/tokenize", json={"model": CHAT, "prompt": "one two"})
        tour.ask(f"POST {root}/detokenize", json={"model": CHAT, "tokens": [1, 2]})
    tour.ask("DELETE /v1/cache")
    asked = [_chat(tour, "slow") for _ in range(3)]
    assert asked[-1].status_code == 429, asked[-1].text
    refused = {"request_id": asked[-1].headers["x-request-id"]}
    tour.ask("GET /v1/limits/explain/{request_id}", refused, by="slow")
    billed = {"request_id": _chat(tour, "all").headers["x-request-id"]}
    tour.ask("GET /v1/receipts/{request_id}", billed, until=True)
    tour.ask("POST /v1/receipts/sum", json={"request_ids": [billed["request_id"]]})


def _chat(tour: Tour, by: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {tour.keys[by]}"}
    return tour.client.post(f"{tour.url}/v1/chat/completions", json=HELLO, headers=headers)


def upload(tour: Tour, purpose: str, text: str) -> dict[str, str]:
    """A file of the tenant."""
    files = {"file": ("lines.jsonl", text.encode())}
    made = tour.ask("POST /v1/files", data={"purpose": purpose}, files=files)
    return {"file_id": made["id"]}


def _files(tour: Tour) -> None:
    kept, gone = upload(tour, "batch", line("a")), upload(tour, "batch", line("b"))
    tour.ask("GET /v1/files")
    tour.ask("GET /v1/files/{file_id}", kept)
    tour.ask("GET /v1/files/{file_id}/content", kept)
    tour.ask("DELETE /v1/files/{file_id}", gone)
    order = {"filename": "a.jsonl", "purpose": "batch", "bytes": 3, "mime_type": "application/jsonl"}
    whole, given_up = ({"upload_id": tour.ask("POST /v1/uploads", json=order)["id"]} for _ in range(2))
    part = tour.ask("POST /v1/uploads/{upload_id}/parts", whole, files={"data": b"abc"})
    tour.ask("GET /v1/uploads/{upload_id}", whole)
    tour.ask("POST /v1/uploads/{upload_id}/cancel", given_up)
    tour.ask("POST /v1/uploads/{upload_id}/complete", whole, json={"part_ids": [part["id"]]})


def _batches(tour: Tour) -> None:
    file = upload(tour, "batch", line("a"))["file_id"]
    order = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    quote = tour.ask("POST /v1/quotes", json=order)
    tour.ask("GET /v1/quotes/{quote_id}", {"quote_id": quote["id"]})
    batch = {"batch_id": tour.ask("POST /v1/batches", json=order | {"completion_window": "24h"})["id"]}
    tour.ask("GET /v1/batches")
    tour.ask("GET /v1/batches/{batch_id}", batch)
    tour.ask("POST /v1/batches/{batch_id}/cancel", batch)


def _fine_tunes(tour: Tour) -> None:
    example = json.dumps({"messages": [{"role": role, "content": "x"} for role in ("user", "assistant")]})
    file = upload(tour, "fine-tune", example)["file_id"]
    job = {"id": tour.ask("POST /v1/fine_tuning/jobs", json={"model": CHAT, "training_file": file})["id"]}
    job_id = ids.from_wire(ids.FINE_TUNING_JOB, job["id"])
    tour.put(
        "insert into fine_tuning_events (job_id, tenant_id, seq, at, level, type, message, data)"
        " values (%s, %s, 1, now(), 'info', 'metrics', 'Step 1', '{\"step\": 1}') returning job_id",
        job_id, tour.house.tenant_id,
    )  # fmt: skip
    tour.ask("GET /v1/fine_tuning/jobs")
    tour.ask("GET /v1/fine_tuning/jobs/{id}", job)
    tour.ask("GET /v1/fine_tuning/jobs/{id}/events", job)
    tour.ask("POST /v1/fine_tuning/jobs/{id}/cancel", job)
    name = f"ft:{CHAT}:acme:tour:1"
    tour.put(
        "insert into adapters (id, tenant_id, job_id, variant_id, name, engine_name, object_prefix, sha256, rank,"
        " size_bytes) values (%s, %s, %s, %s, %s, %s, 'tour/', %s, 8, 1) returning id",
        ids.uuid7(), tour.house.tenant_id, job_id, CHAT, name, f"{job_id.hex}-0123456789abcdef", "0" * 64,
    )  # fmt: skip
    for file_name in ADAPTER_FILES:
        tour.store.put(Bucket.ADAPTERS, f"tour/{file_name}", b"bytes")
    tour.ask("GET /v1/models")
    tour.ask("DELETE /v1/models/{id}", {"id": name}, until=True)
    tour.ask("GET /v1/models/{id}", {"id": CHAT})


def _responses(tour: Tour) -> None:
    ask = {"model": CHAT, "input": "one two", "max_output_tokens": 4}
    kept, gone = ({"response_id": tour.ask("POST /v1/responses", json=ask)["id"]} for _ in range(2))
    tour.ask("POST /v1/responses/input_tokens", json={"model": CHAT, "input": "one two"})
    tour.ask("GET /v1/responses/{response_id}", kept)
    tour.ask("GET /v1/responses/{response_id}/input_items", kept)
    tour.ask("DELETE /v1/responses/{response_id}", gone)
    later = tour.ask("POST /v1/responses", json=ask | {"background": True})
    tour.ask("POST /v1/responses/{response_id}/cancel", {"response_id": later["id"]})


def _comparisons(tour: Tour) -> None:
    one, other = (
        {"comparison_id": tour.ask("POST /v1/comparisons", json={"models": [CHAT, CHAT_FAST]})["id"]} for _ in range(2)
    )
    tour.ask("POST /v1/comparisons/{comparison_id}/vote", one, json={"verdict": "A"})
    tour.ask("GET /v1/comparisons/{comparison_id}", other)
    tour.ask("GET /v1/comparisons/tally")


def _keys_and_webhooks(tour: Tour) -> None:
    key = tour.ask("POST /v1/keys", json={"name": "tour", "scopes": ["inference"], "models": [CHAT]})
    tour.ask("GET /v1/keys")
    tour.ask("DELETE /v1/keys/{key_id}", {"key_id": key["id"]})
    kept, gone = (
        {"webhook_id": tour.ask("POST /v1/webhooks", json={"url": "https://hooks.example.com/"})["id"]}
        for _ in range(2)
    )
    tour.ask("GET /v1/webhooks")
    tour.ask("POST /v1/webhooks/{webhook_id}/rotate", kept)
    tour.ask("POST /v1/webhooks/{webhook_id}/test", kept)
    tour.ask("GET /v1/webhooks/{webhook_id}/deliveries", kept)
    tour.ask("DELETE /v1/webhooks/{webhook_id}", gone)


def _readings(tour: Tour) -> None:
    tour.put(
        "insert into slo_figures (month, objective, subject, value, target, is_met, samples)"
        " values ('2026-11-01', 'availability', %s, 1, 0.99, true, 3) returning uuidv7()",
        CHAT,
    )
    tour.put("insert into signing_keys (id, public_key) values ('tour', 'PEM') returning uuidv7()")
    certificate = tour.put(
        "insert into isolation_certificates (tenant_id, result, began_at, ended_at, document, signature, key_id)"
        " values (%s, 'passed', now(), now(), '{}', 'x', 'tour') returning id",
        tour.house.tenant_id,
    )
    one = {"certificate_id": ids.to_wire(ids.ISOLATION_CERTIFICATE, certificate)}
    tour.ask("GET /v1/isolation/certificates")
    tour.ask("GET /v1/isolation/certificates/{certificate_id}", one)
    tour.ask("GET /v1/slo")
    tour.ask("GET /v1/slo/{month}", {"month": "2026-11"})
    today = int(datetime.now(UTC).timestamp())
    for what in ("usage/completions", "usage/embeddings", "costs"):
        tour.ask(f"GET /v1/organization/{what}", params={"start_time": today - 86400})
    for path in (
        "/v1/usage",
        "/v1/usage/storage",
        "/v1/usage/gpu-hours",
        "/v1/limits",
        "/v1/budgets",
        "/v1/alerts",
        "/v1/balance",
        "/v1/statement",
    ):
        tour.ask(f"GET {path}")
    for path in ("/v1/catalog", "/v1/try-it", "/.well-known/studio-signing-keys", "/auth/session"):
        tour.ask(f"GET {path}", by="nobody")

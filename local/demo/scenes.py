"""The scenes of the story. Each acts through a front door (OpenAI's SDK, the API, Dagster) and asserts what it saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai

from local.api import Api, ApiRefused
from local.bootstrap import EMBEDDED, catalog_models
from local.demo.auditor import Auditor
from local.demo.story import Facts, Say, expect, wait_until
from local.seal import seal_window
from studio import clock, ids

TENANT = "demo"
CHAT, FAST, EMBEDDING = "smollm2-135m-instruct", "smollm2-135m-instruct-fast", "all-minilm-l6-v2"
QUESTION = "Name three rivers in Europe."
# Patience for a busy machine: on two quiet cores an engine takes half a minute, a Dagster run ten seconds.
ENGINE_SECONDS = 900.0
DAGSTER_SECONDS = 300.0


@dataclass
class Demo:
    """What the scenes share: who is asking, and what was made on the way."""

    api: Api
    auditor: Auditor
    out: Path
    key: str = field(default="", repr=False)
    key_prefix: str = ""
    requests: int = 0
    invoice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> openai.OpenAI:
        """The official SDK with the tenant's key: the front door of every customer."""
        return openai.OpenAI(api_key=self.key, base_url=f"{self.api.gateway_url}/v1", max_retries=0, timeout=120)

    def catalog(self, say: Say) -> Facts:
        """Dagster has brought the reviewed YAML into the tables."""
        models = catalog_models(self.api)
        expect({CHAT, FAST, EMBEDDING} <= set(models), "the embedded models are missing from the catalog")
        return {"models for sale": len(models), "of which run here": f"{CHAT}, {FAST}, {EMBEDDING}"}

    def engines(self, say: Say) -> Facts:
        """The node agent started real vLLM engines and proved them with a real request."""

        def ready() -> bool:
            desired = {row["model"]: row for row in self.api.get("/admin/v1/fleet")["desired"]}
            waiting = [model for model in EMBEDDED if desired.get(model, {}).get("ready", 0) < 1]
            say(f"waiting for {', '.join(waiting)}")
            return not waiting

        wait_until(ready, "the engines did not become ready; see `studio logs node-agent`", ENGINE_SECONDS)
        return {
            variant: f"weights {weights} s, start {start} s, first token {first} s"
            for variant, weights, start, first in self.auditor.warmups()
        }

    def tenant_and_key(self, say: Say) -> Facts:
        """A customer of the German entity, billed in euros, and a key of its own."""
        try:
            self.api.post(
                "/admin/v1/tenants",
                {
                    "slug": TENANT,
                    "name": "Demo Customer GmbH",
                    "legal_entity": "xpulink-de",
                    "currency": "EUR",
                    "time_zone": "Europe/Berlin",
                    "buyer": {
                        "name": "Demo Customer GmbH",
                        "street": "Musterweg 7",
                        "city": "20095 Hamburg",
                        "country": "DE",
                        "vat_id": "DE111111111",
                    },
                },
            )
        except ApiRefused as error:
            expect(error.code == "conflict", str(error))  # an earlier demo made it
        created = self.api.post(f"/admin/v1/tenants/{TENANT}/keys", {"name": f"demo {clock.now():%Y-%m-%d %H:%M}"})
        self.key, self.key_prefix = created["key"], created["prefix"]
        # Gateways learn of a key by notification, within milliseconds; a first call may be faster than that.
        wait_until(self._key_works, "the gateway does not know the new key", 10, every=0.05)
        return {"tenant": TENANT, "key": f"{self.key_prefix}..."}

    def _key_works(self) -> bool:
        try:
            self.client.models.list()
        except openai.AuthenticationError:
            return False
        return True

    def chat(self, say: Say) -> Facts:
        """One answer in one piece."""
        answer = self.client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": QUESTION}], max_tokens=48, temperature=0
        )
        self.requests += 1
        expect(answer.usage is not None and answer.usage.completion_tokens > 0, "the answer carries no usage")
        assert answer.usage is not None
        return {
            "asked": QUESTION,
            "answered": _shortened(answer.choices[0].message.content),
            "usage": f"{answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens, model {answer.model}",
        }

    def stream(self, say: Say) -> Facts:
        """One answer as it is written, on the fast tier, which shares the engine here."""
        text, usage = "", None
        for chunk in self.client.chat.completions.create(
            model=FAST,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=48,
            stream=True,
            stream_options={"include_usage": True},
        ):
            expect(chunk.model == FAST, f"a chunk names the model {chunk.model}")
            usage = chunk.usage or usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            say(_shortened(text))
        self.requests += 1
        expect(usage is not None, "the stream ended without the usage that was asked for")
        assert usage is not None
        return {"answered": _shortened(text), "usage": f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"}

    def abandoned_stream(self, say: Say) -> Facts:
        """A client that leaves in mid-stream: the engine stops, and what it had produced is billed."""
        before = self.auditor.end_reasons(self.key_prefix).get("client_left", 0)
        received = 0
        with self.client.chat.completions.create(
            model=CHAT,
            messages=[{"role": "user", "content": "Tell me a very long story about a lighthouse."}],
            max_tokens=1500,
            stream=True,
        ) as stream:
            for chunk in stream:
                received += bool(chunk.choices and chunk.choices[0].delta.content)
                if received >= 12:
                    break
        self.requests += 1

        def billed() -> bool:
            return self.auditor.end_reasons(self.key_prefix).get("client_left", 0) == before + 1

        wait_until(billed, "the abandoned stream was not metered", 30)
        return {
            "left after": f"{received} pieces of at most 1500 tokens",
            "metered as": "client_left, engine's own count",
        }

    def embedding(self, say: Say) -> Facts:
        """A vector from the embedding model."""
        answer = self.client.embeddings.create(model=EMBEDDING, input=["a river in Europe", "a mountain in Asia"])
        self.requests += 1
        expect(len(answer.data) == 2 and len(answer.data[0].embedding) == 384, "the vectors have another shape")
        return {"vectors": "2 x 384", "usage": f"{answer.usage.prompt_tokens} tokens"}

    def events_are_exact(self, say: Say) -> Facts:
        """Every request is in PostgreSQL once, and the events equal the engines' own counters token for token."""

        def shipped() -> bool:
            return self.auditor.events_of_key(self.key_prefix)[0] >= self.requests

        wait_until(shipped, f"not all of the {self.requests} requests arrived in usage_events", 30)
        events, distinct = self.auditor.events_of_key(self.key_prefix)
        expect(events == distinct == self.requests, f"{self.requests} requests gave {events} events")

        def agree() -> bool:
            totals = self.auditor.engine_totals()
            return len(totals) >= len(EMBEDDED) and all(total.agree for total in totals)

        wait_until(agree, f"events and engine counters differ: {self.auditor.engine_totals()}", 30)
        return {
            "requests": f"{self.requests}, each exactly once",
            **{
                total.variant: f"engine {total.engine_prompt} + {total.engine_completion} tokens"
                f" = events {total.events_prompt} + {total.events_completion}"
                + (f", and {total.unbilled} that a killed process had in flight" if total.unbilled else "")
                for total in self.auditor.engine_totals()
            },
        }

    def usage_is_rated(self, say: Say) -> Facts:
        """The window is sealed now instead of tomorrow; Dagster counts, rates and reconciles it."""
        sealed = [seal for day in _recent_days() if (seal := self._seal(day, say)) is not None]
        expect(sealed, "there was nothing to seal")

        def reconciled() -> bool:
            states = {seal["state"] for seal in self.api.get("/admin/v1/usage/windows", tenant=TENANT)}
            expect("held" not in states, "a window is held: see the failed check in Dagster")
            say(f"Dagster is at {', '.join(sorted(states - {'reconciled'})) or 'reconciled'}")
            return states == {"reconciled"}

        wait_until(reconciled, "Dagster did not reconcile the window; see its runs", DAGSTER_SECONDS)
        return {f"window {seal['window']}": f"seal {seal['seal_no']}, {seal['events']} events" for seal in sealed}

    def _seal(self, day: date, say: Say) -> Mapping[str, Any] | None:
        try:
            return seal_window(self.api, day, TENANT, "demonstration: an invoice today", say)
        except ApiRefused as error:
            expect(error.code == "nothing_to_seal", str(error))
            return None

    def invoice_is_drafted(self, say: Say) -> Facts:
        """Dagster drafts the invoice; its total is computed again here, from raw events and prices."""
        month = f"{clock.now().astimezone(clock.BERLIN):%Y-%m}"
        order = self.api.post(
            "/admin/v1/invoices/orders", {"tenant": TENANT, "month": month, "reason": "demonstration: an invoice today"}
        )

        def drafted() -> bool:
            answer = self.api.get(f"/admin/v1/invoices/orders/{order['id']}")
            expect(answer["answer"] is None or answer["invoice_id"], f"no invoice: {answer['answer']}")
            if answer["invoice_id"]:
                self.invoice = self.api.get(f"/admin/v1/invoices/{answer['invoice_id']}")
            return bool(self.invoice)

        wait_until(drafted, "Dagster did not draft the invoice; see its runs", DAGSTER_SECONDS)
        again = self.auditor.recompute(
            ids.from_wire(ids.INVOICE, self.invoice["id"]), Decimal(self.invoice["tax_rate"])
        )
        exact = sum((Decimal(line["exact"]) for line in self.invoice["lines"]), Decimal(0))
        expect(exact == again.exact, f"the lines say {exact}, the events {again.exact}")
        expect(Decimal(self.invoice["net"]) == again.net, f"net {self.invoice['net']} is not {again.net}")
        expect(Decimal(self.invoice["gross"]) == again.gross, f"gross {self.invoice['gross']} is not {again.gross}")
        return {
            "from raw events": f"{again.events} events, {again.tokens} tokens, exactly {again.exact:f} EUR",
            "invoice": f"net {self.invoice['net']} + tax {self.invoice['tax']} = {self.invoice['gross']} EUR (equal)",
        }

    def invoice_is_final(self, say: Say) -> Facts:
        """A person approves the total they saw; Dagster numbers the invoice and renders its PDF."""
        path = f"/admin/v1/invoices/{self.invoice['id']}"
        self.api.post(f"{path}/approvals", {"expected_gross": self.invoice["gross"]})

        def rendered() -> bool:
            self.invoice = self.api.get(path)
            return bool(self.invoice["has_document"])

        wait_until(rendered, "Dagster did not finalise the invoice; see its runs", DAGSTER_SECONDS)
        pdf = self.api.download(f"{path}/document")
        expect(pdf.startswith(b"%PDF-"), "the document is no PDF")
        target = self.out / f"{self.invoice['number']}.pdf"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pdf)
        return {"number": self.invoice["number"], "PDF": f"{target}, SHA-256 {hashlib.sha256(pdf).hexdigest()[:16]}..."}


def _recent_days() -> tuple[date, date]:
    """Yesterday and today in Berlin: a demo may run across midnight."""
    today = clock.now().astimezone(clock.BERLIN).date()
    return today - timedelta(days=1), today


def _shortened(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= 100 else f"{line[:97]}..."

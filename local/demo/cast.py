"""Who plays in the story: the cloud as the scenes reach it, and its customers with what they have done so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from local.api import Api, ApiRefused
from local.bootstrap import HOUSE
from local.demo.auditor import Auditor
from local.demo.story import expect, wait_until
from studio import clock

CHAT, FAST, EMBEDDING = "smollm2-135m-instruct", "smollm2-135m-instruct-fast", "all-minilm-l6-v2"
HUMAN_EVAL = 164  # prompts
QUESTION = "Name three rivers in Europe."
# Patience for a busy machine: on two quiet cores an engine takes half a minute, a Dagster run ten seconds.
ENGINE_SECONDS = 900.0
DAGSTER_SECONDS = 300.0


@dataclass
class Customer:
    """A tenant, the key it calls with in this telling, and what came of that."""

    slug: str
    name: str
    legal_entity: str
    currency: str
    time_zone: str
    address: Mapping[str, str]
    gateway_url: str
    key: str = field(default="", repr=False)
    key_prefix: str = ""
    requests: int = 0
    invoice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> openai.OpenAI:
        """The official SDK with the customer's key: the front door of every customer."""
        return openai.OpenAI(api_key=self.key, base_url=f"{self.gateway_url}/v1", max_retries=0, timeout=120)

    def sign_up(self, api: Api) -> None:
        """Become a tenant, unless an earlier telling did that, and get a new key that the gateway knows."""
        try:
            api.post(
                "/admin/v1/tenants",
                {
                    "slug": self.slug,
                    "name": self.name,
                    "legal_entity": self.legal_entity,
                    "currency": self.currency,
                    "time_zone": self.time_zone,
                    "buyer": {"name": self.name, **self.address},
                },
            )
        except ApiRefused as error:
            expect(error.code == "conflict", str(error))
        created = api.post(f"/admin/v1/tenants/{self.slug}/keys", {"name": f"demo {clock.now():%Y-%m-%d %H:%M}"})
        self.key, self.key_prefix = created["key"], created["prefix"]
        # Gateways learn of a key by notification, within milliseconds; a first call may be faster than that.
        wait_until(self._is_known, "the gateway does not know the new key", 10, every=0.05)

    def _is_known(self) -> bool:
        try:
            self.client.models.list()
        except openai.AuthenticationError:
            return False
        return True


class Demo:
    """What the scenes share."""

    def __init__(self, api: Api, auditor: Auditor, out: Path, batch_prompts: int = HUMAN_EVAL) -> None:
        self.api = api
        self.batch_prompts = batch_prompts
        self.auditor = auditor
        self.out = out
        self.euro = Customer(
            slug="demo",
            name="Demo Customer GmbH",
            legal_entity="xpulink-de",
            currency="EUR",
            time_zone="Europe/Berlin",
            address={"street": "Musterweg 7", "city": "20095 Hamburg", "country": "DE", "vat_id": "DE111111125"},
            gateway_url=api.gateway_url,
        )
        self.yuan = Customer(
            slug="demo-cn",
            name="Demo Customer (Hangzhou) Co., Ltd.",
            legal_entity="xpulink-cn",
            currency="CNY",
            time_zone="Asia/Shanghai",
            address={"street": "7 Example Road", "city": "310000 Hangzhou", "country": "CN"},
            gateway_url=api.gateway_url,
        )

    def colleague(self) -> Api:
        """A second operator with a key of their own: nobody approves what they have reviewed themselves."""
        body = {"name": f"colleague {clock.now():%Y-%m-%d %H:%M}", "scopes": ["admin"]}
        api = Api(self.api.gateway_url, self.api.post(f"/admin/v1/tenants/{HOUSE}/keys", body)["key"])

        def is_known() -> bool:
            try:
                api.get("/admin/v1/invoices/open")
            except ApiRefused as error:
                expect(error.code == "invalid_api_key", str(error))
                return False
            return True

        wait_until(is_known, "the gateway does not know the colleague's key", 10, every=0.05)
        return api

    @property
    def customers(self) -> tuple[Customer, ...]:
        """In the order in which they come in."""
        return self.euro, self.yuan

    def invoice_path(self, customer: Customer) -> Path:
        """Where its newest invoice is put."""
        return self.out / f"{customer.invoice['number']}.pdf"

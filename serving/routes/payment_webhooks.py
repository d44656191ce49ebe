"""Messages of payment providers. They show no key: each is signed, and of one with a wrong signature nothing counts."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel

from billing import payment_providers
from billing.stripe import HEADER, Stripe
from serving.admin.access import Transaction
from serving.identity.needs import PUBLIC
from studio import clock
from studio.errors import NotFound
from studio.settings import settings
from studio.tenants import audit

router = APIRouter(prefix="/v1/webhooks", tags=["account"])


class WebhookAnswer(BaseModel):
    """`booked`; `known`: it was booked before; `ignored`: an event of another kind."""

    result: Literal["booked", "known", "ignored"]


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post("/stripe", dependencies=[PUBLIC])
def take_stripe(
    body: Annotated[bytes, Depends(_body)],
    session: Transaction,
    stripe_signature: Annotated[str, Header(description="as Stripe signs")] = "",
) -> WebhookAnswer:
    """Events of Stripe: `payment_intent.succeeded` and `charge.refunded`. Off until its secret is set."""
    secret = settings().stripe_webhook_secret
    if secret is None:
        raise NotFound(
            "This installation takes no payments by Stripe.", way_out="Its operator sets STUDIO_STRIPE_WEBHOOK_SECRET."
        )
    provider = Stripe(secret.get_secret_value())
    event = provider.read({HEADER: stripe_signature}, body, clock.now())
    if event is None:
        return WebhookAnswer(result="ignored")
    is_new = payment_providers.take(session, provider.name, event, settings().stripe_legal_entity, clock.now())
    if is_new:
        audit(session, provider.name, "payment.told", event.payment, None, {"event": type(event).__name__})
    return WebhookAnswer(result="booked" if is_new else "known")

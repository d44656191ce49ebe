"""Everything that changes something is in the audit log: each operation that may change something has a line here, and
what it says it writes is there once the operation has answered well."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from serving import admin
from serving.app import TENANT_ROUTES
from studio.settings import REPOSITORY
from tests.serving.conformance.tour import Tour

IS_USAGE = "its line is in usage_events: who, what, when and how much"
CHANGES_NOTHING = "it answers, and keeps nothing"
NOT_MADE = "there is nothing that it could do"

OPERATIONS = {
    # Inference, which is usage.
    "POST /v1/chat/completions": IS_USAGE,
    "POST /v1/completions": IS_USAGE,
    "POST /v1/embeddings": IS_USAGE,
    "POST /v1/rerank": IS_USAGE,
    "POST /v1/score": IS_USAGE,
    "POST /v1/messages": IS_USAGE,
    "POST /v1/responses": IS_USAGE,
    "POST /v1/responses/input_tokens": CHANGES_NOTHING,
    "POST /v1/messages/count_tokens": CHANGES_NOTHING,
    "POST /v1/tokenize": CHANGES_NOTHING,
    "POST /v1/detokenize": CHANGES_NOTHING,
    "POST /tokenize": CHANGES_NOTHING,
    "POST /detokenize": CHANGES_NOTHING,
    "POST /v1/moderations": NOT_MADE,
    "POST /v1/images/generations": NOT_MADE,
    # What tenants keep.
    "POST /v1/files": ["file.create"],
    "DELETE /v1/files/{file_id}": ["file.delete"],
    "POST /v1/uploads": ["upload.create"],
    "POST /v1/uploads/{upload_id}/parts": "a part of an upload, which has its lines when it begins and ends",
    "POST /v1/uploads/{upload_id}/complete": ["file.create"],
    "POST /v1/uploads/{upload_id}/cancel": ["upload.cancel"],
    "POST /v1/batches": ["batch.create"],
    "POST /v1/batches/{batch_id}/cancel": ["batch.cancel"],
    "POST /v1/quotes": ["quote.create"],
    "POST /v1/receipts/sum": "a reading, whose question is too long for an address",
    "POST /v1/fine_tuning/jobs": ["fine_tune.create"],
    "POST /v1/fine_tuning/jobs/{id}/cancel": ["fine_tune.cancel"],
    "DELETE /v1/models/{id}": ["model.delete"],
    "DELETE /v1/responses/{response_id}": ["response.delete"],
    "POST /v1/responses/{response_id}/cancel": ["response.cancel"],
    "POST /v1/comparisons": ["comparison.create"],
    "POST /v1/comparisons/{comparison_id}/vote": ["comparison.vote"],
    "DELETE /v1/idempotency-keys/{key}": ["idempotent_answer.delete"],
    "DELETE /v1/cache": ["cache.delete"],
    "POST /v1/keys": ["key.create"],
    "DELETE /v1/keys/{key_id}": ["key.revoke"],
    "POST /v1/webhooks": ["webhook.create"],
    "POST /v1/webhooks/{webhook_id}/rotate": ["webhook.rotate"],
    "DELETE /v1/webhooks/{webhook_id}": ["webhook.delete"],
    "POST /v1/webhooks/{webhook_id}/test": ["webhook.test"],
    "POST /v1/webhooks/stripe": ["payment.told"],
    # People.
    "POST /auth/link": ["session.start", "user.first_sign_in"],
    "POST /auth/session/tenant": ["session.tenant"],
    "POST /auth/logout": ["session.end"],
    "POST /auth/backchannel-logout": ["session.end"],
    "POST /admin/v1/signin-links": ["signin_link.create"],
    "POST /admin/v1/users/{user}/memberships": ["user.grant"],
    "DELETE /admin/v1/memberships/{membership_id}": ["user.revoke"],
    "DELETE /admin/v1/users/{user}/sessions": ["user.end_sessions"],
    # Tenants.
    "POST /admin/v1/tenants": ["tenant.create"],
    "POST /admin/v1/tenants/{slug}/terms": ["tenant.terms"],
    "POST /admin/v1/tenants/{slug}/close": ["tenant.close"],
    "POST /admin/v1/tenants/{slug}/reopen": ["tenant.reopen"],
    "POST /admin/v1/tenants/{slug}/keys": ["key.create"],
    "DELETE /admin/v1/keys/{key_id}": ["key.revoke"],
    "PUT /admin/v1/tenants/{slug}/limits": ["limits.set"],
    "DELETE /admin/v1/tenants/{slug}/limits": ["limits.clear"],
    "PUT /admin/v1/tenants/{slug}/budgets": ["budget.put"],
    "DELETE /admin/v1/tenants/{slug}/budgets/{kind}": ["budget.end"],
    "POST /admin/v1/tenants/{slug}/prices": ["price.set"],
    "POST /admin/v1/tenants/{slug}/prices/{price_id}/end": ["price.end"],
    "POST /admin/v1/tenants/{slug}/commitments": ["commitment.set"],
    "POST /admin/v1/tenants/{slug}/commitments/{commitment_id}/end": ["commitment.end"],
    "POST /admin/v1/tenants/{slug}/card-reservations": ["cards.reserve"],
    "POST /admin/v1/tenants/{slug}/card-reservations/{reservation_id}/end": ["cards.end"],
    "POST /admin/v1/tenants/{slug}/credits": ["credit.grant"],
    "POST /admin/v1/tenants/{slug}/credit-requests": ["credit.request"],
    "POST /admin/v1/credit-requests/{request_id}/approvals": ["credit.grant"],
    "POST /admin/v1/credit-requests/{request_id}/declines": ["credit.decline"],
    # The fleet.
    "POST /admin/v1/fleet/replicas": ["fleet.attach"],
    "DELETE /admin/v1/fleet/replicas/{replica_id}": ["fleet.detach"],
    "POST /admin/v1/fleet/overrides": ["fleet.override"],
    "DELETE /admin/v1/fleet/overrides/{override_id}": ["fleet.override_end"],
    "PUT /admin/v1/clock": ["clock.set"],
    "DELETE /admin/v1/clock": ["clock.reset"],
    "POST /admin/v1/models/{model}/weights/uploads": "addresses to upload to; publishing has its line",
    "POST /admin/v1/models/{model}/weights/publish": ["weights.publish"],
    # Money.
    "POST /admin/v1/usage/windows/{window}/seals": ["usage.seal"],
    "POST /admin/v1/usage/quarantine/{entry}/decision": ["quarantine.discarded"],
    "POST /admin/v1/invoices/orders": ["invoice.order"],
    "POST /admin/v1/invoices/{invoice_id}/again": ["invoice.again"],
    "POST /admin/v1/invoices/{invoice_id}/reviews": ["invoice.review"],
    "POST /admin/v1/invoices/{invoice_id}/approvals": ["invoice.approve"],
    "POST /admin/v1/invoices/{invoice_id}/void": ["invoice.void"],
    "POST /admin/v1/tenants/{slug}/holds": ["invoices.hold"],
    "POST /admin/v1/holds/{hold_id}/release": ["invoices.release"],
    "POST /admin/v1/invoices/{invoice_id}/corrections": ["invoice.correct"],
    "POST /admin/v1/rerates/{month}/corrections": ["invoice.rerate"],
    "POST /admin/v1/corrections/{correction_id}/void": ["correction.void"],
    "POST /admin/v1/corrections/{correction_id}/reviews": ["correction.review"],
    "POST /admin/v1/corrections/{correction_id}/approvals": ["correction.approve"],
    "POST /admin/v1/payments": ["payment.record"],
    "POST /admin/v1/payments/imports": ["payment.import"],
    "POST /admin/v1/payments/{payment_id}/matches": ["payment.match"],
    "POST /admin/v1/payments/{payment_id}/unmatch": ["payment.unmatch"],
    "POST /admin/v1/payments/{payment_id}/refunds": ["payment.refund"],
    "POST /admin/v1/invoices/{invoice_id}/payouts": ["payment.payout"],
    "POST /admin/v1/invoices/{invoice_id}/write-offs": ["write_off.propose"],
    "POST /admin/v1/write-offs/{write_off_id}/approval": ["write_off.approve"],
    "POST /admin/v1/write-offs/{write_off_id}/rejection": ["write_off.reject"],
}
# Written where the tour does not come, or not always: the file that writes it.
NOT_ON_THE_TOUR = {
    "response.cancel": "serving/responses/store.py",  # unless the answer is there first; tests/serving/responses looks
    "cache.delete": "serving/routes/cache.py",  # the tour's gateway has no Valkey; tests/serving/cache looks
    "payment.payout": "serving/admin/payments.py",
    "invoice.again": "serving/admin/invoices.py",  # of a cancelled one; tests/admin looks
    "invoice.rerate": "serving/admin/rerates.py",  # of usage that was rated; tests/admin looks
}


def changing() -> set[str]:
    """Operations by label, of routes that the document leaves out, too."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for part in (*TENANT_ROUTES, admin):
        app.include_router(part.router)
    routes = iter_route_contexts(app.routes)
    return {f"{method} {one.path_format}" for one in routes for method in one.methods or () if method != "GET"}


def test_every_operation_that_may_change_something_has_its_line_here(tour: Tour) -> None:
    documented = {label for label in tour.operations if not label.startswith("GET ")}
    assert documented | changing() == OPERATIONS.keys()


def test_what_has_answered_well_is_in_the_audit_log(tour: Tour) -> None:
    with tour.house.database.superuser() as connection:
        rows = connection.execute("select action, actor from audit_log where actor != 'tests'").fetchall()
    written = {action for action, _ in rows}
    promised = {action for actions in OPERATIONS.values() if isinstance(actions, list) for action in actions}
    assert promised - written <= NOT_ON_THE_TOUR.keys()
    assert all(actor for _, actor in rows)
    for action, file in NOT_ON_THE_TOUR.items():
        assert f'"{action}"' in (REPOSITORY / file).read_text()

"""Reviews, holds and the list of what waits, through the front door and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.api import ApiRefused
from local.demo.auditor import Auditor
from local.demo.cast import Demo
from studio import ids
from tests.admin.conftest import Office
from tests.admin.test_corrections import FINAL_INVOICE, LINES


@pytest.fixture(scope="module")
def draft(office: Office) -> str:
    with office.database.superuser() as connection:
        row = connection.execute(FINAL_INVOICE).fetchone()
        connection.execute(LINES)
    assert row is not None
    return ids.to_wire(ids.INVOICE, row[0])


def waits(office: Office, id: str) -> tuple[str, str]:
    (row,) = (row for row in office.api.get("/admin/v1/invoices/open") if row["id"] == id)
    return row["waits_for"], row["who"]


def test_review_hold_release_and_approval_by_two_persons(office: Office, draft: str) -> None:
    path, total = f"/admin/v1/invoices/{draft}", {"expected_gross": "7.14"}
    assert waits(office, draft) == ("review", "anybody")
    with pytest.raises(ApiRefused) as refused:
        office.api.post(f"{path}/reviews", {"expected_gross": "7.13"})
    assert refused.value.code == "total_differs"
    reviewed = office.studio("invoice", "review", draft, "--total", "7.14")
    assert f"Reviewed by {office.admin_key[:12]}" in reviewed.stdout
    assert waits(office, draft) == ("approval", f"anybody but {office.admin_key[:12]}")
    with pytest.raises(ApiRefused) as refused:
        office.api.post(f"{path}/approvals", total)
    assert refused.value.code == "same_person"
    held = office.studio("invoice", "hold", "--tenant", "acme", "--reason", "looks odd")
    assert held.returncode == 0, held.stderr
    (hold,) = office.api.get("/admin/v1/holds", tenant="acme")
    assert waits(office, draft) == ("hold", f"a release of {hold['id']}: looks odd")
    with pytest.raises(ApiRefused, match="looks odd") as refused:
        office.colleague.post(f"{path}/approvals", total)
    assert refused.value.code == "tenant_held"
    assert "Released by" in office.studio("invoice", "release", hold["id"], "--reason", "it is right").stdout
    assert office.colleague.post(f"{path}/approvals", total)["invoice_id"] == draft
    assert waits(office, draft)[0] == "numbering"
    with office.database.superuser() as connection:
        audited = connection.execute("select action from audit_log where subject in (%s, %s) order by at",
                                     (draft, hold["id"])).fetchall()  # fmt: skip
    assert [action for (action,) in audited] == [
        "invoice.review", "invoices.hold", "invoices.release", "invoice.approve",
    ]  # fmt: skip


def test_the_demo_makes_a_second_person(office: Office, tmp_path: Path) -> None:
    colleague = Demo(office.api, Auditor(""), tmp_path).colleague()
    held = colleague.post("/admin/v1/tenants/acme/holds", {"reason": "demo"})
    assert held["held_by"] not in (office.admin_key[:12], "")
    assert colleague.post(f"/admin/v1/holds/{held['id']}/release", {"reason": "demo"})["released_by"] == held["held_by"]
    colleague.close()


def test_a_large_lot_of_credit_by_two_persons(office: Office) -> None:
    body = {"kind": "prepaid", "amount": "10000.00", "reason": "wire 4711"}
    with pytest.raises(ApiRefused) as refused:
        office.api.post("/admin/v1/tenants/acme/credits", body)
    assert refused.value.code == "second_person_needed"
    asked = office.studio("credit", "request", "--tenant", "acme", "10000.00", "--reason", "wire 4711")
    assert asked.returncode == 0, asked.stderr
    (request,) = (row for row in office.api.get("/admin/v1/invoices/open") if row["kind"] == "credit")
    with pytest.raises(ApiRefused) as refused:
        office.api.post(f"/admin/v1/credit-requests/{request['id']}/approvals")
    assert refused.value.code == "same_person"
    lot = office.colleague.post(f"/admin/v1/credit-requests/{request['id']}/approvals")
    assert (lot["amount"], lot["remaining"]) == ("10000.00", "10000.00")
    again = office.api.post("/admin/v1/tenants/acme/credit-requests", body)
    said = office.studio("credit", "decline", again["id"], "--reason", "booked already")
    assert said.returncode == 0, said.stderr
    assert "Declined 10000.00" in said.stdout
    with pytest.raises(ApiRefused) as refused:
        office.colleague.post(f"/admin/v1/credit-requests/{again['id']}/approvals")
    assert refused.value.code == "already_answered"

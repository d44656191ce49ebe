"""Credit and ledger through the front door, with the command line that finance uses."""

from __future__ import annotations

import pytest

from local.api import ApiRefused
from tests.admin.conftest import Office


def test_credit_is_granted_booked_and_audited(office: Office) -> None:
    granted = office.studio("credit", "grant", "--tenant", "acme", "250.00", "--reason", "wire 4711")
    assert granted.returncode == 0, granted.stderr
    (lot,) = office.api.get("/admin/v1/tenants/acme/credits")
    assert (lot["amount"], lot["remaining"], lot["currency"]) == ("250.00", "250.00", "EUR")
    assert lot["id"] in granted.stdout
    (booked,) = office.api.get("/admin/v1/ledger/transactions", subject=lot["id"])
    sides = {entry["account"]: entry["amount"] for entry in booked["entries"]}
    assert sides == {"prepaid": "-250.000000000000", "bank": "250.000000000000"}
    assert booked["booked_by"] == office.admin_key[:12]
    with office.database.superuser() as connection:
        audited = connection.execute("select subject from audit_log where action = 'credit.grant'").fetchall()
    assert audited == [(lot["id"],)]


def test_the_ledger_shows_its_balances_and_that_it_holds(office: Office) -> None:
    office.api.post("/admin/v1/tenants/acme/credits", {"kind": "promotion", "amount": "5.00", "reason": "welcome"})
    rows = office.api.get("/admin/v1/ledger/balances")
    assert {row["kind"]: row["amount"] for row in rows}["promotion_cost"] == "5.000000000000"
    assert "welcome" in office.studio("ledger", "list", "--tenant", "acme").stdout
    verified = office.api.get("/admin/v1/ledger/verification")
    assert (verified["holds"], verified["closed_days"], verified["head"]) == (True, 0, "0" * 64)


def test_a_ledger_that_does_not_hold_ends_the_command_with_1_and_the_day(office: Office) -> None:
    with office.database.superuser() as connection:
        connection.execute(
            "insert into ledger_days (day, transactions, content_sha256, previous_sha256, sha256)"
            " values ('2026-01-02', 3, 'x', 'y', 'z')"
        )
    verified = office.studio("ledger", "verify")
    with office.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("delete from ledger_days")
    assert verified.returncode == 1
    assert "2026-01-02: 3 transactions were closed, 0 are there" in " ".join(verified.stdout.split())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "gift"}, "prepaid"),
        ({"amount": "0"}, "greater than 0"),
        ({"amount": "1.001"}, "2 decimal places"),
        ({"expires_on": "2020-01-01"}, "is over"),
        ({"reason": ""}, "at least 1 character"),
    ],
)
def test_credit_that_makes_no_sense_is_refused(office: Office, body: dict[str, str], words: str) -> None:
    with pytest.raises(ApiRefused, match=words):
        office.api.post("/admin/v1/tenants/acme/credits", {"kind": "prepaid", "amount": "1.00", "reason": "x"} | body)

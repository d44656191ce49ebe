"""Documents through the front door: a tenant reads its own and no other's, finance reads all, in every format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from billing.documents.kinds import FORMS, Kind
from billing.documents.snapshot import sha256_of, to_json
from local.objects import EmbeddedObjectStore
from studio import ids
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectDiffers, ObjectStore
from studio.settings import Settings
from studio.tenants import create_key, find_tenant
from tests.admin.conftest import Office
from tests.admin.test_corrections import FINAL_INVOICE, LINES, MAKE_FINAL
from tests.billing.documents.samples import SAMPLES
from tests.conftest import new_tenant

BODIES: dict[Kind, bytes] = {"pdf": b"%PDF-1.7", "cii": b"<cii/>", "csv": b"line_no\r\n"}


@pytest.fixture(scope="module")
def store(objects: EmbeddedObjectStore) -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in objects.environment.items():
            environment.setenv(name, value)
        yield ObjectStore.from_settings(Settings())


@pytest.fixture(scope="module")
def invoice(office: Office, store: ObjectStore) -> str:
    """A final invoice with three documents, as publishing leaves it behind."""
    content = to_json(SAMPLES["domestic"])
    with office.database.superuser() as connection:
        row = connection.execute(FINAL_INVOICE).fetchone()
        assert row is not None
        invoice_id: UUID = row[0]
        connection.execute(LINES)
        connection.execute(MAKE_FINAL)
        connection.execute(
            "insert into document_snapshots (id, tenant_id, invoice_id, content, sha256)"
            " select id, tenant_id, id, %s, %s from invoices",
            (content, sha256_of(content)),
        )
        for kind, body in BODIES.items():
            key = f"documents-test/{hashlib.sha256(body).hexdigest()}"
            store.put_once(Bucket.INVOICES, key, body)
            connection.execute(
                "insert into invoice_documents (invoice_id, kind, object_key, sha256, size_bytes)"
                " select id, %s, %s, '', 1 from invoices",
                (kind, key),
            )
    return ids.to_wire(ids.INVOICE, invoice_id)


@pytest.fixture(scope="module")
def key(office: Office) -> str:
    """Of the customer's bookkeeping."""
    with unit_of_work(office.operator) as session:
        return create_key(session, find_tenant(session, "acme").id, "books", "tests", scopes=["account"]).text


def test_a_tenant_lists_its_documents_and_fetches_each_format(office: Office, invoice: str, key: str) -> None:
    (one,) = _get(office, key, "/v1/invoice-documents").json()["data"]
    assert (one["number"], one["gross"], one["documents"]) == ("XDE-2026-000001", "1457.99", ["cii", "csv", "pdf"])
    for kind, body in BODIES.items():
        answer = _get(office, key, f"/v1/invoice-documents/{invoice}/{kind}")
        assert (answer.content, answer.headers["content-type"]) == (body, FORMS[kind].media_type)
        assert f'filename="XDE-2026-000001.{FORMS[kind].suffix}"' in answer.headers["content-disposition"]
    assert office.status_with(key, f"/v1/invoice-documents/{invoice}/fapiao") == 404
    assert office.status_with(key, f"/v1/invoice-documents/{invoice}/docx") == 400


def test_another_tenants_invoice_does_not_exist_and_a_stranger_is_401(office: Office, invoice: str) -> None:
    other = new_tenant(office.operator, "other")
    with unit_of_work(office.operator) as session:
        key = create_key(session, other, "other", "tests", scopes=["account"]).text
        narrow = create_key(session, other, "narrow", "tests", scopes=["inference"]).text
    path = f"/v1/invoice-documents/{invoice}/pdf"
    assert office.status_with(key, path) == 404
    assert _get(office, key, "/v1/invoice-documents").json()["data"] == []
    assert office.status_with("xpu_none", path) == 401
    assert office.status_with(narrow, path) == 403
    assert office.status_with(office.customer_key, f"/admin{path}") == 404


def test_finance_fetches_each_format_by_the_command_line(office: Office, invoice: str, tmp_path: Path) -> None:
    for kind, body in BODIES.items():
        target = tmp_path / kind
        done = office.studio("invoice", "document", invoice, "--format", kind, "--out", str(target))
        assert done.returncode == 0, done.stderr
        assert target.read_bytes() == body
    refused = office.studio("invoice", "document", invoice, "--format", "ubl", "--out", str(tmp_path / "x"))
    assert refused.returncode == 1
    assert "no document yet, or none of the format ubl" in " ".join(refused.stderr.split())


def test_an_object_is_written_once(store: ObjectStore) -> None:
    store.put_once(Bucket.INVOICES, "once", b"first")
    store.put_once(Bucket.INVOICES, "once", b"first")
    with pytest.raises(ObjectDiffers, match="other bytes"):
        store.put_once(Bucket.INVOICES, "once", b"second")
    assert store.get(Bucket.INVOICES, "once") == b"first"


def _get(office: Office, key: str, path: str) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{office.gateway.url}{path}", headers=headers, trust_env=False)

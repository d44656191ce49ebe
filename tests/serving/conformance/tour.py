"""A walk through the operations of the OpenAPI document, so that each answers well once. What comes back is held
against the document here, and the ids that it leaves behind are those that random calls are made with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import schemathesis
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks

from studio.objects import ObjectStore
from tests.serving.conftest import House

TRUE = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
]


@dataclass
class Tour:
    """Calls by the operation's label, such as `GET /v1/files/{file_id}`."""

    url: str
    house: House
    store: ObjectStore
    keys: Mapping[str, str]  # who calls -> API key; `nobody` has none
    operations: Mapping[str, Any]
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    untrue: list[str] = field(default_factory=list)
    reached: dict[str, dict[str, str]] = field(default_factory=dict)  # label -> the ids it was last reached with

    @classmethod
    def of(cls, document: Any, url: str, house: House, store: ObjectStore, keys: Mapping[str, str]) -> Tour:
        """Before the first step."""
        found = [one for one in document.get_all_operations() if isinstance(one, Ok)]
        return cls(url, house, store, keys, {one.ok().label: one.ok() for one in found})

    def ask(
        self,
        label: str,
        ids: Mapping[str, str] | None = None,
        *,
        by: str = "all",
        headers: Mapping[str, str] | None = None,
        until: bool = False,
        **request: Any,
    ) -> Any:
        """The answer's object, or its text. It must be good and as described; `until`: it may take a while to be."""
        method, path = label.split(" ")
        operation, deadline = self.operations[label], time.monotonic() + 15
        bearer = {"authorization": f"Bearer {self.keys[by]}"} if by in self.keys else {}
        address = self.url + path.format_map(ids or {})
        while True:
            asked = self.client.build_request(method, address, headers=bearer | dict(headers or {}), **request)
            asked.read()  # a form is a stream until then
            answer = self.client.send(asked)
            self.client.cookies.clear()
            if answer.is_success or not until or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        assert answer.is_success, f"{label}: {answer.status_code} {answer.text}"
        try:
            operation.Case(path_parameters=dict(ids or {})).validate_response(answer, checks=TRUE)
        except schemathesis.errors.FailureGroup as failures:
            self.untrue += [f"{label}: {failure}" for failure in failures.exceptions]
        self.reached[label] = dict(ids or {})
        is_json = answer.headers.get("content-type") == "application/json" and answer.content
        return answer.json() if is_json else answer

    def put(self, statement: str, *values: Any) -> UUID:
        """What only jobs write, as a bad day would; the id that the statement returns."""
        with self.house.database.superuser() as connection:
            row = connection.execute(statement, values).fetchone()
        assert row is not None
        id: UUID = row[0]
        return id

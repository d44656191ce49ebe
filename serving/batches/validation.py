"""Validation: a batch file is judged whole before any of it runs. Pure; memory grows with the number of lines only.

What a single line must look like is `lines.py`; here is what only the whole file can get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from serving import routing
from serving.batches.lines import Line, LineTooLong, inputs_of, read_request
from serving.batches.planner import LineAt
from serving.fleet.view import Fleet
from serving.routing import Target
from serving.tokens.wire import Endpoint
from studio.errors import InvalidRequest, PermissionDenied, StudioError

LINES_MOST = 50_000
INPUTS_MOST = 50_000  # of all embedding requests together
FINDINGS_MOST = 100
TEXT_LENGTH = 500  # of a finding; it may quote what the caller wrote

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # jsonb takes neither


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in OpenAI's fields. `line` is None for the file as a whole."""

    code: str
    message: str
    line: int | None
    param: str | None


def finding(code: str, message: str, line: int | None = None, param: str | None = None) -> Finding:
    """The only way to make one: whatever it quotes, the database can keep it."""
    return Finding(code, _storable(message), line, None if param is None else _storable(param))


@dataclass(frozen=True, slots=True)
class Validated:
    """A file that can run."""

    target: Target
    lines: tuple[LineAt, ...]


@dataclass
class _Reading:
    endpoint: Endpoint
    fleet: Fleet
    tenant_id: UUID
    models: Collection[str] | None
    target: Target | None = None
    lines: list[LineAt] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    first_use: dict[str, int] = field(default_factory=dict)  # of each custom_id: its line
    inputs: int = 0

    def judge(self, line: Line) -> None:
        """InvalidRequest or ModelNotFound for what is wrong with the line, also in view of those before."""
        request = read_request(line.text, self.endpoint)
        earlier = self.first_use.setdefault(request.custom_id, line.number)
        if earlier != line.number:
            raise InvalidRequest(
                f"The custom_id {request.custom_id!r} was already used in line {earlier}.",
                code="duplicate_custom_id",
                param="custom_id",
            )
        if self.models is not None and request.call.model not in self.models:
            raise PermissionDenied(
                f"The batch's API key may not use the model `{request.call.model}`, only {', '.join(self.models)}.",
                param="body.model",
            )
        target = routing.target_named(self.fleet, request.call.model, self.tenant_id)
        if target.variant.task not in self.endpoint.tasks:
            raise InvalidRequest(
                f"The model `{target.name}` is for {target.variant.task}; {self.endpoint.path} cannot use it.",
                code="model_not_supported",
                param="body.model",
            )
        if self.target is None:
            self.target = target
        if target.name != self.target.name:
            raise InvalidRequest(
                f"All lines must name the same model: this one names `{target.name}`, an earlier one"
                f" `{self.target.name}`.",
                code="mismatched_model",
                param="body.model",
            )
        self.inputs += inputs_of(request.call)
        self.lines.append(LineAt(line.number, line.byte_from, line.byte_until))


def validate(
    lines: Iterable[Line],
    endpoint: Endpoint,
    fleet: Fleet,
    tenant_id: UUID,
    models: Collection[str] | None = None,
) -> Validated | tuple[Finding, ...]:
    """The file as it can run, or everything that is wrong with it (at most FINDINGS_MOST things).

    `models`: those that the batch's key is confined to; None for a key that may use all.
    """
    reading = _Reading(endpoint, fleet, tenant_id, models)
    read = 0
    try:
        for line in lines:
            read += 1
            if read > LINES_MOST or len(reading.findings) >= FINDINGS_MOST:
                break
            try:
                reading.judge(line)
            except StudioError as error:
                reading.findings.append(finding(error.code, error.message, line.number, error.param))
    except LineTooLong as error:
        reading.findings.append(finding(error.code, error.message, error.number))
    reading.findings.extend(_of_the_whole(reading, read))
    if reading.findings or reading.target is None:
        return tuple(reading.findings)
    return Validated(reading.target, tuple(reading.lines))


def _of_the_whole(reading: _Reading, read: int) -> Iterable[Finding]:
    if read == 0 and not reading.findings:
        yield finding("empty_file", "The file has no requests.")
    if read > LINES_MOST:
        yield finding("too_many_requests", f"A batch may have at most {LINES_MOST:,} lines.")
    if reading.endpoint.tasks == {"embedding"} and reading.inputs > INPUTS_MOST:
        message = f"A batch of embeddings may have at most {INPUTS_MOST:,} inputs, not {reading.inputs:,}."
        yield finding("too_many_inputs", message)


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text[:TEXT_LENGTH])

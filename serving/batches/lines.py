"""Lines of a batch file: cut from bytes that arrive in pieces, and read as requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from serving.images.parts import read_parts
from serving.images.rules import Pixels, check_data_url, check_number
from serving.tokens.wire import COMPLETIONS, EMBEDDINGS, Call, Endpoint, read_call
from studio.errors import InvalidRequest

LINE_BYTES = 8 * 1024 * 1024
CUSTOM_ID_LENGTH = 512
_BOM = b"\xef\xbb\xbf"


class LineTooLong(InvalidRequest):
    """Reading stops here: what follows cannot be told apart from it in bounded memory."""

    def __init__(self, number: int) -> None:
        super().__init__(f"The line is longer than {LINE_BYTES:,} bytes.", code="line_too_long")
        self.number = number


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank. `number` counts all lines of the file from 1, as editors do."""

    number: int
    byte_from: int
    byte_until: int  # its line end included
    text: bytes


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What one line asks."""

    custom_id: str
    call: Call


def read_lines(pieces: Iterable[bytes], number: int = 1, byte_from: int = 0) -> Iterator[Line]:
    """The lines of a file, or of a part of it that begins with line `number` at `byte_from`.

    A byte-order mark, carriage returns, blank lines and a missing end of the last line are tolerated.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for raw in whole:
            byte_until = byte_from + len(raw) + 1
            if text := _text(raw, number, byte_from):
                yield Line(number, byte_from, byte_until, text)
            number, byte_from = number + 1, byte_until
        if len(rest) > LINE_BYTES:
            raise LineTooLong(number)
    if text := _text(rest, number, byte_from):
        yield Line(number, byte_from, byte_from + len(rest), text)


def read_request(text: bytes, endpoint: Endpoint) -> BatchRequest:
    """One line as a request; InvalidRequest says what is wrong with it."""
    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The line is not valid JSON: {error}.", code="invalid_json_line") from error
    if not isinstance(line, dict):
        raise InvalidRequest("The line is not a JSON object.", code="invalid_json_line")
    custom_id = _field(line, "custom_id", str)
    if not 0 < len(custom_id) <= CUSTOM_ID_LENGTH or "\0" in custom_id:
        raise InvalidRequest(f"`custom_id` must have 1 to {CUSTOM_ID_LENGTH} characters.", param="custom_id")
    if (method := _field(line, "method", str)) != "POST":
        raise InvalidRequest(f"`method` must be POST, not {method[:20]!r}.", code="invalid_method", param="method")
    if (url := _field(line, "url", str)) != endpoint.path:
        message = f"`url` is {url[:80]!r}, but this batch is for {endpoint.path}."
        raise InvalidRequest(message, code="mismatched_endpoint", param="url")
    call = read_call(endpoint, _dumped(_field(line, "body", dict)))
    if call.stream:
        raise InvalidRequest("A line of a batch cannot stream.", code="stream_not_supported", param="body.stream")
    return BatchRequest(custom_id, _self_contained(call))


def custom_id_of(text: bytes) -> str:
    """The line's own name, whatever else is wrong with it; empty when there is none."""
    try:
        custom_id = orjson.loads(text)["custom_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return custom_id[:CUSTOM_ID_LENGTH] if isinstance(custom_id, str) else ""


def inputs_of(call: Call) -> int:
    """How many texts a request hands over at once."""
    name = {EMBEDDINGS: "input", COMPLETIONS: "prompt"}.get(call.endpoint)
    given = call.payload[name] if name else None
    return len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1


def _self_contained(call: Call) -> Call:
    """A worker fetches nothing for a tenant, and an engine must not."""
    if "messages" not in call.payload:
        return call
    messages, images = read_parts(call.payload["messages"])
    check_number(images)
    pixels = Pixels()
    for image in images:
        if image.url[:5].lower() != "data:":
            raise InvalidRequest("Images of a batch must be `data:` URLs.", param=image.where)
        check_data_url(image.url, pixels, image.where)
    return msgspec.structs.replace(call, payload=call.payload | {"messages": messages})


def _dumped(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:  # it reads 1,024 levels and writes 254
        raise InvalidRequest("The line is nested too deeply.", code="invalid_json_line") from error


def _field(line: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = line.get(name)
    if value is None:
        raise InvalidRequest(f"Missing required field `{name}`.", code="missing_required_parameter", param=name)
    if not isinstance(value, kind):
        expected = "a string" if kind is str else "an object"
        raise InvalidRequest(f"`{name}` must be {expected}.", code="invalid_type", param=name)
    return value


def _text(raw: bytes, number: int, byte_from: int) -> bytes:
    if len(raw) > LINE_BYTES:
        raise LineTooLong(number)
    if byte_from == 0 and raw.startswith(_BOM):
        raw = raw[len(_BOM) :]
    return raw.strip()

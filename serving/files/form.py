"""A multipart form read as it arrives: fields whole, the file in pieces. Pure: bytes in, parts of the form out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from studio.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

FIELD_BYTES = 64 * 1024
FIELDS = 32


@dataclass(frozen=True, slots=True)
class Field:
    """A small text."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegins:
    """The file's pieces follow."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of the file."""

    data: bytes


Part = Field | FileBegins | Piece


class FormReader:
    """Cuts a form into its parts, wherever the network cut it."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise UnsupportedMediaType("The body must be a form with `Content-Type: multipart/form-data`.")
        self._parts: list[Part] = []
        self._fields = 0
        self._header_name = self._header_value = b""
        self._name = ""
        self._value: bytearray | None = None  # of the field being read; None inside a file
        self._is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that are there with `data`."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise InvalidRequest(f"The form cannot be read: {error}.") from error
        parts, self._parts = self._parts, []
        return iter(parts)

    def require_complete(self) -> None:
        """InvalidRequest unless the form has come to its own end."""
        if not self._is_complete:
            raise InvalidRequest("The form ends in the middle of a part.")

    def _on_part_begin(self) -> None:
        self._fields += 1
        if self._fields > FIELDS:
            raise InvalidRequest(f"The form has more than {FIELDS} parts.")
        self._name = ""
        self._value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = options.get(b"name", b"").decode(errors="replace")
            filename = options.get(b"filename")
            if filename is not None:
                self._value = None
                self._parts.append(FileBegins(self._name, filename.decode(errors="replace")))
        self._header_name = self._header_value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._value is None:
            self._parts.append(Piece(data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise PayloadTooLarge(f"The form's field `{self._name}` is larger than {FIELD_BYTES} bytes.")

    def _on_part_end(self) -> None:
        if self._value is not None:
            self._parts.append(Field(self._name, self._value.decode(errors="replace")))

    def _on_end(self) -> None:
        self._is_complete = True

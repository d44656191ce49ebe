"""Writing XML as text: elements in the order given, empty ones left out, the same bytes for the same content."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from xml.sax.saxutils import escape, quoteattr

Content = str | None


def element(name: str, *children: Content, **attributes: str) -> str | None:
    """An element of elements; None when there is none in it."""
    inner = "".join(child for child in children if child)
    return f"<{name}{_written(attributes)}>{inner}</{name}>" if inner else None


def text(name: str, value: object, **attributes: str) -> str | None:
    """An element with a text; None for None and the empty text."""
    if value is None or value == "":
        return None
    return f"<{name}{_written(attributes)}>{escape(_plain(value))}</{name}>"


def document(root: str, namespaces: dict[str, str], *children: Content) -> bytes:
    """The whole file."""
    declared = "".join(f" {prefix}={quoteattr(uri)}" for prefix, uri in namespaces.items())
    inner = "".join(child for child in children if child)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{declared}>{inner}</{root}>\n'.encode()


def percent(rate: Decimal) -> str:
    """0.1900 -> "19.00"."""
    return f"{rate * 100:.2f}"


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else str(value)


def _written(attributes: dict[str, str]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())

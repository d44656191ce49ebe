"""Texts that many routes take, each read in one way: what PostgreSQL can store, and ids of API keys. Pure."""

from __future__ import annotations

from uuid import UUID

from studio import ids
from studio.errors import InvalidRequest

STORABLE = r"^[^\x00]*$"  # PostgreSQL's text and jsonb take no NUL


def storable(text: str, param: str) -> str:
    """A text to look for, which has no model with the pattern above."""
    if "\0" in text:
        raise InvalidRequest(f"`{param}` contains a NUL character.", param=param)
    return text


def key_id(text: str, param: str) -> UUID:
    """The API key behind an id of the wire. Whose key it is, if anybody's, is for the caller to find out."""
    try:
        return ids.from_wire(ids.API_KEY, text)
    except ValueError as error:
        raise InvalidRequest(f"`{param}` must be the id of an API key ({ids.API_KEY}...).", param=param) from error

"""The kinds of documents, as they are stored and downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["pdf", "cii", "ubl", "csv", "json", "fapiao"]


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind is written."""

    suffix: str
    media_type: str


FORMS = MappingProxyType[Kind, Form](
    {
        "pdf": Form("pdf", "application/pdf"),
        "cii": Form("cii.xml", "application/xml"),
        "ubl": Form("ubl.xml", "application/xml"),
        "csv": Form("csv", "text/csv; charset=utf-8"),
        "json": Form("json", "application/json"),
        "fapiao": Form("fapiao.json", "application/json"),
    }
)

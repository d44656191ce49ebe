"""`python -m serving.document FILE`: write the OpenAPI document without a running gateway, for client generators."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from serving.app import described_application
from studio.settings import settings


def write(path: Path) -> None:
    """A file that says the same already is left as it is, so that `make` builds nothing anew."""
    document = described_application(settings().max_body_bytes).openapi()
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    if not path.is_file() or path.read_bytes() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

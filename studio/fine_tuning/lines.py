"""One line of a data set, from bytes to JSON. The validator and the trainer both read it here: whatever one of them
understood differently would pass the first and stop the second, again and again.

Lines end with \\n alone, so files are opened as bytes: text files of Python also end them at a bare \\r.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

MOST_LINE_BYTES = 1024 * 1024


class LineUnreadable(ValueError):
    """No JSON that we read. The words are for the tenant and repeat nothing of the line."""


def filled(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers, counted from 1."""
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def parse(line: bytes) -> Any:
    """What the line says. LineUnreadable with the reason."""
    if len(line) > MOST_LINE_BYTES:
        raise LineUnreadable(f"longer than {MOST_LINE_BYTES} bytes")
    if line.startswith(codecs.BOM_UTF8):
        raise LineUnreadable("it begins with a byte order mark; save the file as UTF-8 without one")
    if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        raise LineUnreadable("a carriage return stands within the line; lines end with a line feed")
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise LineUnreadable("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise LineUnreadable(f"not JSON ({error.msg} at column {error.colno})") from error
    except RecursionError as error:
        raise LineUnreadable("nested too deeply") from error
    except ValueError as error:  # Python's limit of 4,300 digits
        raise LineUnreadable("a number has too many digits") from error


def is_unicode(text: str) -> bool:
    """Whether it is text. JSON's escapes can spell half a pair of surrogates, which no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

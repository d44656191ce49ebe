"""What the first bytes of an image say: its type, and how large it is once it is unpacked. Pure.

A small file can unpack to gigabytes in the engine, and only the header tells before. Everything is read that a decoder
would believe up to the first pixels, so that a second header cannot say something else than the one that was judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_MOST_STEPS = 10_000  # chunks, segments or blocks before the pixels; real images have some dozens
_NO_SIZE = "its size cannot be read from its header"

# Start of frame; 0xC4, 0xC8 and 0xCC of the range mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA


class Unreadable(ValueError):
    """No image, or one that does not say how large it is."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image is."""

    type: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Once it is unpacked."""
        return self.width * self.height


def read_header(content: bytes) -> Header:
    """Of a whole file. Vector images and whatever else a browser might show are none."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        kind, (width, height) = "image/png", _png(content)
    elif content.startswith(b"\xff\xd8\xff"):
        kind, (width, height) = "image/jpeg", _jpeg(content)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        kind, (width, height) = "image/gif", _gif(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        kind, (width, height) = "image/webp", _webp(content)
    else:
        raise Unreadable("it is no PNG, JPEG, GIF or WebP")
    if not width or not height:
        raise Unreadable(_NO_SIZE)
    return Header(kind, width, height)


def _number(content: bytes, at: int, length: int, order: Literal["big", "little"] = "big") -> int:
    part = content[at : at + length]
    if len(part) < length:
        raise Unreadable(_NO_SIZE)
    return int.from_bytes(part, order)


def _png(content: bytes) -> tuple[int, int]:
    if content[12:16] != b"IHDR":
        raise Unreadable(_NO_SIZE)
    at = 8
    for step in range(_MOST_STEPS):
        length, name = _number(content, at, 4), content[at + 4 : at + 8]
        if name == b"IDAT":
            return _number(content, 16, 4), _number(content, 20, 4)
        if step > 0 and name == b"IHDR":
            break  # some decoders believe the last one
        at += 12 + length
    raise Unreadable(_NO_SIZE)


def _jpeg(content: bytes) -> tuple[int, int]:
    size: tuple[int, int] | None = None
    at = 2
    for _ in range(_MOST_STEPS):
        if _number(content, at, 1) != 0xFF:
            break
        marker = _number(content, at + 1, 1)
        if marker == _JPEG_SCAN and size is not None:
            return size
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        if marker in _JPEG_FRAMES:
            if size is not None:
                break  # some decoders believe the last one
            size = _number(content, at + 7, 2), _number(content, at + 5, 2)
        if marker == 0xFF:  # it fills up
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        else:
            at += 2 + _number(content, at + 2, 2)
    raise Unreadable(_NO_SIZE)


def _gif(content: bytes) -> tuple[int, int]:
    """The screen, or what of the first picture lies beyond it: decoders make room for both."""
    width, height = _number(content, 6, 2, "little"), _number(content, 8, 2, "little")
    flags = _number(content, 10, 1)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    is_within = False  # an extension
    for _ in range(_MOST_STEPS):
        first = _number(content, at, 1)
        if is_within:
            is_within = first > 0
            at += 1 + first
        elif first == 0x21:
            is_within = True
            at += 2
        elif first == 0x2C:
            left, top, own_width, own_height = (_number(content, at + 1 + 2 * n, 2, "little") for n in range(4))
            return max(width, left + own_width), max(height, top + own_height)
        else:
            break
    raise Unreadable(_NO_SIZE)


def _webp(content: bytes) -> tuple[int, int]:
    match content[12:16]:
        case b"VP8 " if content[23:26] == b"\x9d\x01\x2a":
            return _number(content, 26, 2, "little") & 0x3FFF, _number(content, 28, 2, "little") & 0x3FFF
        case b"VP8L" if content[20:21] == b"\x2f":
            bits = _number(content, 21, 4, "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return _number(content, 24, 3, "little") + 1, _number(content, 27, 3, "little") + 1
    raise Unreadable(_NO_SIZE)

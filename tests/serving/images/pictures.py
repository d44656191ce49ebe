"""Files of images up to where the pixels begin, written byte by byte."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable


def png(width: int, height: int, *before: bytes) -> bytes:
    """Chunks `before` the pixels have a name of four bytes each, and their content."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR" + head, *before, b"IDATpixels", b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(one) - 4) + one + b"\0CRC" for one in chunks)


def jpeg(width: int, height: int, *before: bytes, frame: int = 0xC0) -> bytes:
    """Segments `before` the frame have a marker of one byte each, and their content."""
    own = bytes((frame,)) + struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x01\x03\x11\x01"
    segments = (b"\xe0JFIF\0", *before, own, b"\xda\0\0")
    return b"\xff\xd8" + b"".join(b"\xff" + one[:1] + struct.pack(">H", len(one) + 1) + one[1:] for one in segments)


def gif(width: int, height: int, *before: bytes, picture: tuple[int, int, int, int] = (0, 0, 1, 1)) -> bytes:
    """With a palette of four colours, blocks `before` the first picture, and where that lies on the screen."""
    screen = struct.pack("<HHBBB", width, height, 0x81, 0, 0) + bytes(12)
    return b"GIF89a" + screen + b"".join(before) + b"\x2c" + struct.pack("<HHHHB", *picture, 0) + b"\x02\x00;"


def webp_lossy(width: int, height: int) -> bytes:
    """A key frame of VP8; the two highest bits ask for scaling."""
    return _riff(b"VP8 ", b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height))


def webp_lossless(width: int, height: int) -> bytes:
    """VP8L, with alpha."""
    return _riff(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14 | 1 << 28))


def webp_extended(width: int, height: int) -> bytes:
    """VP8X: animated, or with a profile."""
    return _riff(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


def data_url(content: bytes) -> str:
    """As clients send it. What kind it says is nobody's business."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _riff(name: bytes, content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(content)) + b"WEBP" + name + struct.pack("<I", len(content)) + content


KINDS: dict[Callable[[int, int], bytes], str] = {
    png: "image/png",
    jpeg: "image/jpeg",
    gif: "image/gif",
    webp_lossy: "image/webp",
    webp_lossless: "image/webp",
    webp_extended: "image/webp",
}

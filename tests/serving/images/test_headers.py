"""What an image says of itself before it is unpacked, and what is refused for it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batches.lines import read_request
from serving.images import headers, rules
from serving.images.headers import Header, Unreadable, read_header
from serving.tokens.wire import CHAT
from studio.errors import InvalidRequest
from tests.serving.images import pictures
from tests.serving.images.pictures import data_url, gif, jpeg, png

STARTS = (
    *(b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"GIF89a"),
    *(b"RIFF\0\0\0\0WEBP" + name for name in (b"VP8 ", b"VP8L", b"VP8X")),
)


@given(kind=st.sampled_from(list(pictures.KINDS)), width=st.integers(1, 16383), height=st.integers(1, 16383))
def test_type_and_size_of_each_kind(kind: Callable[[int, int], bytes], width: int, height: int) -> None:
    assert read_header(kind(width, height)) == Header(pictures.KINDS[kind], width, height)


@pytest.mark.parametrize(
    "content",
    [
        png(640, 480, b"gAMA\0\0\xb1\x8f", b"tEXtComment\0IDAT"),
        jpeg(640, 480, b"\xe1Exif\0\0" + b"\xff\xc0\0\x11\x08\0\1\0\1" * 9, b"\xfe a comment", b"\xc4\0"),
        jpeg(640, 480, frame=0xC2),
        jpeg(640, 480).replace(b"\xff\xe0", b"\xff\xff\xff\xff\xe0"),
        gif(640, 480, b"\x21\xfe\x03abc\x02de\0", b"\x21\xf9\x04\0\0\0\0\0"),
        gif(1, 1, picture=(600, 400, 40, 80)),
    ],
)
def test_what_stands_before_the_pixels_is_stepped_over(content: bytes) -> None:
    header = read_header(content)
    assert (header.width, header.height) == (640, 480)


@pytest.mark.parametrize(
    "content",
    [
        *(kind(100, 100)[:length] for kind in pictures.KINDS for length in (16, 20)),
        *(png(0, 1), png(1, 0), jpeg(0, 1), jpeg(1, 0), gif(0, 0, picture=(0, 0, 0, 0))),
        png(1, 1, b"IHDR" + b"\0\1\0\0" * 2 + b"\x08\x02\0\0\0"),
        png(1, 1).replace(b"IHDR", b"tEXt"),
        png(1, 1).replace(b"IDAT", b"tEXt"),
        jpeg(1, 1, b"\xc0\x08\xff\xff\xff\xff\x03"),
        jpeg(1, 1).replace(b"\xff\xc0", b"\xff\xe1"),
        jpeg(1, 1).replace(b"\xff\xc0", b"\xff\xd9"),
        jpeg(1, 1).replace(b"\xff\xc0", b"\0\xc0"),
        gif(1, 1, b"\x3b"),
        pictures.webp_lossy(1, 1).replace(b"\x9d\x01\x2a", b"\0\0\0"),
        pictures.webp_lossless(1, 1).replace(b"VP8L", b"ALPH"),
    ],
)
def test_what_does_not_say_one_size_has_none(content: bytes) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        read_header(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(17) + b"\0\0\0\0tEXt\0CRC" * 100_000,
        b"\xff\xd8" + b"\xff" * 1_000_000,
        b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\x01a" * 500_000,
    ],
)
def test_nobody_is_led_through_a_million_pieces(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    number = headers._number

    def counting(*arguments: object) -> int:
        nonlocal taken
        taken += 1
        return number(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(headers, "_number", counting)
    with pytest.raises(Unreadable):
        read_header(content)
    assert taken <= 3 * headers._MOST_STEPS


@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=200))
def test_any_bytes_have_a_size_or_are_unreadable(start: bytes, rest: bytes) -> None:
    try:
        assert read_header(start + rest).pixels > 0
    except Unreadable as refused:
        assert str(refused)  # noqa: PT017 (both ways are right)


@given(
    kind=st.sampled_from(list(pictures.KINDS)),
    changes=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_file_has_a_size_or_is_unreadable(
    kind: Callable[[int, int], bytes], changes: list[tuple[int, int]]
) -> None:
    content = bytearray(kind(100, 100))
    for at, byte in changes:
        content[at % len(content)] = byte
    try:
        assert read_header(bytes(content)).pixels > 0
    except Unreadable as refused:
        assert str(refused)  # noqa: PT017 (both ways are right)


def take(*contents: bytes) -> None:
    """All as the images of one request."""
    pixels = rules.Pixels()
    for content in contents:
        rules.check_data_url(data_url(content), pixels, "here")


def test_an_image_may_unpack_to_so_much_and_a_request_to_twice_that() -> None:
    take(png(8000, 5000), jpeg(5000, 8000))
    with pytest.raises(InvalidRequest, match="8,001 x 5,000 pixels; 40,000,000 are allowed") as large:
        take(png(8001, 5000))
    assert (large.value.code, large.value.param) == ("invalid_image_url", "here")
    with pytest.raises(InvalidRequest, match="80,000,000 pixels in all"):
        take(png(8000, 5000), jpeg(5000, 8000), gif(1, 1))
    with pytest.raises(InvalidRequest, match="size cannot be read"):
        take(png(0, 5))


def test_stray_characters_do_not_move_the_header() -> None:
    with pytest.raises(InvalidRequest, match="not valid base64"):
        rules.check_data_url(data_url(png(1, 1)) + "!", rules.Pixels(), "here")


def test_the_lines_of_a_batch_are_held_to_it_too() -> None:
    def read(*contents: bytes) -> None:
        parts = [{"type": "image_url", "image_url": {"url": data_url(content)}} for content in contents]
        body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
        line = {"custom_id": "a", "method": "POST", "url": CHAT.path, "body": body}
        read_request(json.dumps(line).encode(), CHAT)

    read(png(8000, 5000), png(8000, 5000))
    for contents, word in (([png(9000, 9000)], "are allowed"), ([png(8000, 5000)] * 3, "in all")):
        with pytest.raises(InvalidRequest, match=word) as refused:
            read(*contents)
        assert refused.value.code == "invalid_image_url"

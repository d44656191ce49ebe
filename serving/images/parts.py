"""Content parts of chat messages: which kinds there are, and where the images stand. Pure.

Parts are written anew from the keys that are known here. vLLM looks for an address under several keys, even in a part
that calls itself a text (one with a `uuid`), and would fetch it from inside our network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio.errors import InvalidRequest

# What each kind is written as, which is also the key that holds its text. The last two are the Responses API's names.
_TEXTS = {"text": "text", "refusal": "refusal", "thinking": "thinking", "input_text": "text", "output_text": "text"}


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One image of a chat."""

    message: int
    part: int
    url: str

    @property
    def where(self) -> str:
        """For `param`."""
        return f"messages[{self.message}].content[{self.part}].image_url"


def read_parts(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[ImagePart]]:
    """The messages with their parts written anew, and the images among those."""
    images: list[ImagePart] = []
    written: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        content, rewritten = message.get("content"), message
        if isinstance(content, list):
            parts = [_part(part, f"messages[{index}].content[{number}]") for number, part in enumerate(content)]
            images += [
                ImagePart(index, number, part["image_url"]["url"])
                for number, part in enumerate(parts)
                if part["type"] == "image_url"
            ]
            rewritten = message | {"content": parts}
        written.append(rewritten)
    return written, images


def with_urls(messages: list[dict[str, Any]], urls: dict[ImagePart, str]) -> list[dict[str, Any]]:
    """The messages with other addresses for these images."""
    written = list(messages)
    for image, url in urls.items():
        parts = list(written[image.message]["content"])
        parts[image.part] = {"type": "image_url", "image_url": {"url": url}}
        written[image.message] = written[image.message] | {"content": parts}
    return written


def _part(part: dict[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "image_url":
        image = part.get("image_url")
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise InvalidRequest(f"`{where}.image_url` must be an object with `url`.", param=f"{where}.image_url")
        return {"type": "image_url", "image_url": {"url": image["url"]}}
    key = _TEXTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise InvalidRequest(
            f"Content parts may be of type `text` or `image_url` here, not {str(kind)[:80]!r}.", param=f"{where}.type"
        )
    if not isinstance(part.get(key), str):
        raise InvalidRequest(f"`{where}.{key}` must be a string.", param=f"{where}.{key}")
    return {"type": key, key: part[key]}

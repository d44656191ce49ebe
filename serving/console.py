"""The console's built files, from memory: clean paths, a strict policy per page, compressed as the browser can.

`console/scripts/finish.mjs` writes `site.json` beside the files: what each path answers with, and the policy that names
the page's own scripts. Only paths of that list exist, so no path leads out of the folder. Without a build nothing here
answers, and the gateway shows its plain first page. Read once: a build that is made later is served after a restart.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from serving.envelope import Headers
from serving.tokens.client import Receive, Scope, Send
from studio.settings import settings

Encoding = Literal["br", "gzip"]

_ENCODINGS: tuple[tuple[Encoding, str], ...] = (("br", ".br"), ("gzip", ".gz"))  # the smaller one first
_LOCALE_COOKIE = b"locale="
_COMMON: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"vary", b"accept-encoding"),
]

log = structlog.get_logger()


class _Page(msgspec.Struct, frozen=True):
    """One path of `site.json`."""

    file: str
    type: str
    etag: str
    immutable: bool
    encodings: list[Encoding]
    policy: str | None = None


class _Site(msgspec.Struct, frozen=True):
    locales: list[str]  # the first is the default
    paths: dict[str, _Page]


@dataclass(frozen=True, slots=True)
class _Answer:
    headers: Headers
    bodies: dict[str, bytes]  # by content encoding; "" is the plain one, of files that are not compressed
    etag: bytes


class Console:
    """An ASGI application for the paths that it says it answers."""

    def __init__(self, locales: list[str], answers: dict[str, _Answer]) -> None:
        self._locales = locales
        self._answers = answers

    @classmethod
    def built(cls) -> Console:
        """What `make console` has built; empty, with a word in the log, when it has not."""
        folder = settings().console_dir
        if not (folder / "site.json").is_file():
            log.info("console_not_built", folder=str(folder), way_out="make console (needs Node.js 20), then restart")
            return cls([], {})
        site = msgspec.json.decode((folder / "site.json").read_bytes(), type=_Site)
        return cls(site.locales, {path: _answer(folder, page) for path, page in site.paths.items()})

    def answers(self, scope: Scope) -> bool:
        """Whether a request is the console's. Whatever else begins like a language is its own 404, for people."""
        if scope["method"] not in ("GET", "HEAD"):
            return False
        path: str = scope["path"]
        return path in self._answers or (bool(self._locales) and (path == "/" or self._locale_of(path) is not None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One file, or the way to the reader's language."""
        path: str = scope["path"]
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        if path == "/":
            where = f"/{self._language(headers)}".encode()
            moved = [(b"location", where), (b"cache-control", b"no-store"), (b"vary", b"accept-language, cookie")]
            await _send(send, 302, [*moved, (b"content-length", b"0")], b"")
            return
        answer, status = self._answers.get(path), 200
        if answer is None:
            answer, status = self._answers[f"/{self._locale_of(path)}/missing"], 404
        if status == 200 and headers.get(b"if-none-match") == answer.etag:
            await _send(send, 304, answer.headers, b"")
            return
        accepted = headers.get(b"accept-encoding", b"").decode("latin-1")
        encoding = next((name for name, _ in _ENCODINGS if name in answer.bodies and name in accepted), "")
        # No browser asks for it plain, so it is not kept so: 3 MiB of every gateway.
        body = gzip.decompress(answer.bodies["gzip"]) if encoding not in answer.bodies else answer.bodies[encoding]
        described = [*answer.headers, (b"content-length", b"%d" % len(body))]
        if encoding:
            described.append((b"content-encoding", encoding.encode()))
        await _send(send, status, described, b"" if scope["method"] == "HEAD" else body)

    def _locale_of(self, path: str) -> str | None:
        first = path.split("/", 2)[1]
        return first if first in self._locales else None

    def _language(self, headers: dict[bytes, bytes]) -> str:
        """Chosen before, else what the browser prefers, else the default."""
        for cookie in headers.get(b"cookie", b"").split(b";"):
            chosen = cookie.strip().removeprefix(_LOCALE_COOKIE).decode("latin-1")
            if cookie.strip().startswith(_LOCALE_COOKIE) and chosen in self._locales:
                return chosen
        for wish in _preferred(headers.get(b"accept-language", b"").decode("latin-1")):
            if wish in self._locales:
                return wish
        return self._locales[0]


_READ = frozenset({b"accept-encoding", b"accept-language", b"cookie", b"if-none-match"})


def _preferred(accept_language: str) -> list[str]:
    """Languages without their region, the most wanted first; what cannot be read counts least."""
    wishes = []
    for part in accept_language.split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            weight = 0.0
        wishes.append((weight, tag.split("-")[0].lower()))
    return [tag for _, tag in sorted(wishes, key=lambda wish: -wish[0])]


def _answer(folder: Path, page: _Page) -> _Answer:
    etag = f'"{page.etag}"'.encode()
    keeping = b"public, max-age=31536000, immutable" if page.immutable else b"no-cache"
    headers = [*_COMMON, (b"content-type", page.type.encode()), (b"cache-control", keeping), (b"etag", etag)]
    if page.policy is not None:
        headers.append((b"content-security-policy", page.policy.encode()))
    bodies: dict[str, bytes] = {
        encoding: (folder / (page.file + suffix)).read_bytes()
        for encoding, suffix in _ENCODINGS
        if encoding in page.encodings
    }
    if "gzip" not in bodies:
        bodies[""] = (folder / page.file).read_bytes()
    return _Answer(headers, bodies, etag)


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})

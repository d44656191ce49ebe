"""The policy of the pages that were built: it names their own scripts, each by its hash, and lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from studio.settings import REPOSITORY

pytestmark = pytest.mark.browser  # it needs the build that these need

BUILT = REPOSITORY / "build" / "console"
PAGES = ("", "/models", "/playground", "/service", "/signin", "/imprint", "/privacy", "/missing")


class _Scripts(HTMLParser):
    """What of a page could run or reach out: read by another parser than the one that wrote the policy."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.inline: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self._is_inline = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.handlers += [name for name in named if name.startswith("on")]
        self.handlers += [value for value in named.values() if value and value.startswith("javascript:")]
        if tag in ("script", "link", "img", "iframe", "object", "embed"):
            self.addresses += [value for name in ("src", "href", "data") if (value := named.get(name)) is not None]
        if tag == "style":
            self.handlers.append("a style sheet in the page")
        self._is_inline = tag == "script" and "src" not in named
        if self._is_inline:
            self.inline.append("")

    def handle_data(self, data: str) -> None:
        if self._is_inline:
            self.inline[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._is_inline = False


@pytest.fixture(scope="module")
def site() -> dict[str, dict[str, str]]:
    """The pages of `site.json`, by path."""
    if not (BUILT / "site.json").is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("The console is not built: `make console`.")
    paths: dict[str, dict[str, str]] = json.loads((BUILT / "site.json").read_text())["paths"]
    return {path: page for path, page in paths.items() if page["type"].startswith("text/html")}


def test_every_page_is_there_in_every_language(site: dict[str, dict[str, str]]) -> None:
    assert set(site) == {f"/{locale}{page}" for locale in ("en", "de", "zh") for page in PAGES}


def test_each_policy_names_the_scripts_of_its_page_and_no_other_source(site: dict[str, dict[str, str]]) -> None:
    for path, page in site.items():
        scripts = _Scripts(Path(BUILT / page["file"]).read_text())
        hashes = {
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts.inline
        }
        assert hashes, path
        policy = {name: set(values) for name, *values in (part.split() for part in page["policy"].split(";"))}
        assert policy == {
            "default-src": {"'none'"},
            "script-src": {"'self'"} | hashes,
            "style-src": {"'self'"},
            "style-src-attr": {"'unsafe-inline'"},
            "font-src": {"'self'"},
            "img-src": {"'self'", "data:"},
            "connect-src": {"'self'"},
            "base-uri": {"'none'"},
            "form-action": {"'none'"},
            "frame-ancestors": {"'none'"},
        }, path
        assert not scripts.handlers, path
        foreign = [one for one in scripts.addresses if not one.startswith(("/", "#", "data:")) or one.startswith("//")]
        assert not foreign, path

"""How the gateway serves a built console: clean paths, languages, policies, caching. On a small build of its own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local.sign_in import sign_in_words
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess

POLICY = "default-src 'none'; script-src 'self' 'sha256-x'"


def built(folder: Path) -> Path:
    """What `console/scripts/finish.mjs` leaves, in little."""
    paths = {}
    for locale in ("en", "de", "zh"):
        for name in ("", "/models", "/signin", "/missing"):
            paths[f"/{locale}{name}"] = (f"{locale}{name}.html", f"<p>{locale}{name}</p>".encode())
    paths["/_next/static/a b.js"] = ("_next/static/a b.js", b"let a = 1;" * 100)
    described = {}
    for path, (file, content) in paths.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
        is_page = file.endswith(".html")
        described[path] = {
            "file": file,
            "type": "text/html; charset=utf-8" if is_page else "text/javascript; charset=utf-8",
            "etag": file,
            "immutable": not is_page,
            "encodings": [] if is_page else ["gzip"],
        } | ({"policy": POLICY} if is_page else {})
        if not is_page:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content))
    (folder / "secret.txt").write_text("not in the list")
    (folder / "site.json").write_text(json.dumps({"locales": ["en", "de", "zh"], "paths": described}))
    return folder


@pytest.fixture(scope="module")
def site(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a gateway with that build."""
    folder = built(tmp_path_factory.mktemp("console"))
    settings = {"STUDIO_CONSOLE_DIR": str(folder)}
    with (
        GatewayProcess(house.database, tmp_path_factory.mktemp("gateway"), settings=settings) as gateway,
        httpx.Client(base_url=gateway.url, headers={"accept-encoding": "identity"}) as client,
    ):
        yield client


def test_a_page_has_a_clean_path_and_its_own_policy(site: httpx.Client) -> None:
    page = site.get("/de/models")
    assert (page.status_code, page.text) == (200, "<p>de/models</p>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    assert site.get("/de/models/").text == page.text
    assert site.head("/de/models").headers["content-length"] == str(len(page.content))
    again = site.get("/de/models", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_has_a_hash_in_its_name_is_kept_and_compressed(site: httpx.Client) -> None:
    plain = site.get("/_next/static/a%20b.js")
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in plain.headers
    packed = site.get("/_next/static/a%20b.js", headers={"accept-encoding": "br, gzip"})
    assert (packed.headers["content-encoding"], packed.content) == ("gzip", plain.content)
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    ("cookie", "accepted", "expected"),
    [
        ("", "", "/en"),
        ("", "de-AT,de;q=0.9,en;q=0.8", "/de"),
        ("", "fr, zh-CN;q=0.5, en;q=0.4", "/zh"),
        ("", "fr;q=x, , ;q=", "/en"),
        ("a=b; locale=zh", "de", "/zh"),
        ("locale=../../etc", "de", "/de"),
    ],
)
def test_the_first_page_leads_to_the_readers_language(
    site: httpx.Client, cookie: str, accepted: str, expected: str
) -> None:
    moved = site.get("/", headers={"cookie": cookie, "accept-language": accepted})
    assert (moved.status_code, moved.headers["location"]) == (302, expected)
    assert moved.headers["cache-control"] == "no-store"


def test_an_unknown_page_is_a_404_for_people_and_an_unknown_route_one_for_programs(site: httpx.Client) -> None:
    page = site.get("/zh/nothing")
    assert (page.status_code, page.text) == (404, "<p>zh/missing</p>")
    assert site.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert site.get("/fr").json()["error"]["code"] == "not_found"
    assert site.post("/en/models").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/site.json",
        "/en.html",
        "/en/../secret.txt",
        "/en/..%2fsecret.txt",
        "/_next/../site.json",
    ],
)
def test_nothing_but_what_is_listed_can_be_read(site: httpx.Client, path: str) -> None:
    # httpx would tidy the path up before sending it.
    answer = site.send(httpx.Request("GET", httpx.URL(str(site.base_url)).copy_with(raw_path=path.encode())))
    assert answer.status_code == 404
    assert "not in the list" not in answer.text
    assert "locales" not in answer.text


def test_the_api_is_where_it_was(site: httpx.Client, house: House) -> None:
    assert site.get("/v1/models", headers={"authorization": f"Bearer {house.key.text}"}).status_code == 200
    assert site.get("/docs").status_code == 200


def test_without_a_build_the_plain_first_page_says_how_to_make_one(stranger: httpx.Client) -> None:
    page = stranger.get("/")
    assert page.status_code == 200
    assert "make console" in page.text
    assert stranger.get("/en").json()["error"]["code"] == "not_found"


def test_the_demo_prints_a_sign_in_link_only_where_it_leads_somewhere(
    site: httpx.Client, stranger: httpx.Client
) -> None:
    link = "http://gateway/en/signin#link=once"
    assert sign_in_words(str(site.base_url).rstrip("/"), lambda: link).startswith(link)
    assert sign_in_words(str(stranger.base_url).rstrip("/"), lambda: link).startswith("needs the console: `make con")

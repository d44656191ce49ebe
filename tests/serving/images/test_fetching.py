"""Images from a real TLS server, and from servers that want something else of us."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp import web

from serving.images import fetching
from serving.images.fetching import MOST_BYTES, Images
from serving.images.rules import Address
from serving.tokens.wire import CHAT, read_call
from studio import ids
from studio.errors import InvalidRequest, ServiceUnavailable
from tests.serving.images import pictures
from tests.serving.test_wire import BASE
from tests.tls import certificate_of

PNG = pictures.png(16, 16) + bytes(300)
HOST = "images.test"
SEEING = replace(BASE, vision=True)
TENANT, OTHER = ids.uuid7(), ids.uuid7()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_of(HOST, tmp_path_factory.mktemp("tls") / "server.pem")


class Elsewhere:
    """A server of somebody else: its paths, and who has asked for them."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.has_begun = asyncio.Semaphore(0)  # a slow answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path:
            case "/a.png":
                assert "authorization" not in request.headers
                assert "cookie" not in request.headers
                return web.Response(body=PNG, content_type="image/png")
            case "/large.png":
                return web.Response(body=pictures.png(8000, 5001), content_type="image/png")
            case "/page":
                return web.Response(text="<html>")
            case "/lie.png":
                return web.Response(body=b"<html>", content_type="image/png")
            case "/vector":
                return web.Response(body=b"<svg/>", content_type="image/svg+xml")
            case "/packed":
                return web.Response(body=PNG, content_type="image/png", headers={"content-encoding": "gzip"})
            case "/slow":
                self.has_begun.release()
                await asyncio.sleep(5)
                return web.Response(body=PNG, content_type="image/png")
            case "/endless":
                response = web.StreamResponse(headers={"content-type": "image/png"})
                await response.prepare(request)
                for _ in range(2 * MOST_BYTES // len(PNG) // 1000):
                    await response.write(PNG * 1000)
                return response
            case "/to":
                return web.Response(status=302, headers={"location": request.query["url"]})
            case "/round":
                return web.Response(status=302, headers={"location": "/round"})
        return web.Response(status=404)


@asynccontextmanager
async def elsewhere(certificate: Path) -> AsyncIterator[Elsewhere]:
    server = Elsewhere()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


class Names:
    """A DNS of the test's own: the answers for a name, one after the other; the last one stays."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self._answers = {name.replace("_", "."): list(addresses) for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        if host not in self._answers:
            return await fetching.resolve(host, port)
        answers = self._answers[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(one) for one in answer.split()]


def images(server: Elsewhere, certificate: Path, names: Names | None = None, **rules: Any) -> Images:
    """With the one exception to the rules that lets a test have its server on this machine."""
    here = ipaddress.ip_address("127.0.0.1")
    return Images(
        frozenset({f"{HOST}:{server.port}"}),
        resolve=(names or Names(images_test=["127.0.0.1"])).resolve,
        tls=ssl.create_default_context(cafile=certificate),
        **{"is_allowed": lambda address: address == here} | rules,
    )


async def sent(images: Images, *urls: str, tenant_id: UUID = TENANT) -> list[str]:
    """The addresses that the engine gets."""
    parts = [{"type": "text", "text": "look"}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    call = await images.handed_over(read_call(CHAT, orjson.dumps(body)), SEEING, tenant_id)
    return [part["image_url"]["url"] for part in call.payload["messages"][0]["content"][1:]]


def refusal(certificate: Path, path: str, names: Names | None = None, **rules: Any) -> tuple[str, list[str]]:
    """What the caller is told of an image at this path, and what its server was asked."""

    async def fetch() -> tuple[str, list[str]]:
        async with elsewhere(certificate) as server:
            url = f"https://{HOST}:{server.port}{path}" if path.startswith("/") else path
            with pytest.raises(InvalidRequest) as refused:
                await sent(images(server, certificate, names, **rules), url)
            assert refused.value.param == "messages[0].content[1].image_url"
            return refused.value.message, server.asked

    return asyncio.run(fetch())


def test_an_engine_gets_the_bytes_and_no_address(certificate: Path) -> None:
    async def fetch() -> None:
        async with elsewhere(certificate) as server:
            base = f"https://{HOST}:{server.port}"
            given = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
            urls = await sent(images(server, certificate), f"{base}/a.png", given, f"{base}/to?url=/a.png")
            assert urls == [given] * 3

    asyncio.run(fetch())


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/none", "answered 404"),
        ("/page", "not an image"),
        ("/lie.png", "no PNG, JPEG, GIF or WebP"),
        ("/large.png", "40,000,000 are allowed"),
        ("/vector", "no PNG, JPEG, GIF or WebP"),
        ("/packed", "compressed"),
        ("/endless", "bytes in all"),
        ("/round", "redirected more than 3 times"),
        ("/to?url=http://images.test/a.png", "only `https:`"),
        ("/to?url=file:///etc/passwd", "only `https:`"),
        ("/to?url=https://127.0.0.1/a.png", "not among those"),
        ("/to?url=https://%5B::1", "no URL|not a valid URL"),
    ],
)
def test_what_is_not_an_image_of_a_fair_server_is_refused(certificate: Path, path: str, rule: str) -> None:
    message, _ = refusal(certificate, path)
    assert any(one in message for one in rule.split("|")), message


def test_one_that_does_not_arrive_is_given_up(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", timedelta(seconds=0.3))
    assert "did not arrive" in refusal(certificate, "/slow")[0]


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1."),
        *("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "0", "10.0.0.1", "①②⑦.⓪.⓪.①"),
    ],
)
def test_no_spelling_of_an_inner_address_is_asked(host: str) -> None:
    """The rules of production, and the resolver of this machine."""

    async def fetch() -> None:
        with pytest.raises(InvalidRequest, match=r"not on the public internet|cannot be resolved"):
            await sent(Images(), f"https://{host}/latest/meta-data")

    asyncio.run(fetch())


def test_a_name_with_one_inner_address_is_not_asked(certificate: Path) -> None:
    message, asked = refusal(certificate, "/a.png", Names(images_test=["127.0.0.1 10.0.0.1"]))
    assert "not on the public internet" in message
    assert asked == []


def test_a_name_that_changes_its_mind_is_asked_once(certificate: Path) -> None:
    """The address that was checked is the one that is connected to; a rebinding DNS has no second chance."""

    async def fetch() -> None:
        names = Names(images_test=["127.0.0.1", "10.0.0.1"])
        async with elsewhere(certificate) as server:
            assert await sent(images(server, certificate, names), f"https://{HOST}:{server.port}/a.png")
        assert names.asked == [HOST]

    asyncio.run(fetch())


def test_a_redirect_is_checked_like_the_first_address(certificate: Path) -> None:
    names = Names(images_test=["127.0.0.1", "169.254.169.254"])
    message, asked = refusal(certificate, "/to?url=/a.png", names)
    assert "not on the public internet" in message
    assert asked == ["/to"]


def test_a_server_that_cannot_prove_its_name_is_not_believed(certificate: Path) -> None:
    async def fetch() -> None:
        async with elsewhere(certificate) as server:
            strict = Images(
                frozenset({f"{HOST}:{server.port}"}),
                resolve=Names(images_test=["127.0.0.1"]).resolve,
                is_allowed=lambda _: True,
            )
            with pytest.raises(InvalidRequest, match="could not be reached"):
                await sent(strict, f"https://{HOST}:{server.port}/a.png")
            assert server.asked == []

    asyncio.run(fetch())


def test_a_model_without_eyes_refuses_before_anything_is_fetched(certificate: Path) -> None:
    async def fetch() -> None:
        names = Names(images_test=["127.0.0.1"])
        async with elsewhere(certificate) as server:
            parts = [{"type": "image_url", "image_url": {"url": f"https://{HOST}:{server.port}/a.png"}}]
            body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]})
            with pytest.raises(InvalidRequest, match="does not read images"):
                await images(server, certificate, names).handed_over(read_call(CHAT, body), BASE, TENANT)
            assert (names.asked, server.asked) == ([], [])

    asyncio.run(fetch())


def test_too_many_images_are_refused(certificate: Path) -> None:
    async def fetch() -> None:
        with pytest.raises(InvalidRequest, match="at most 20 images"):
            await sent(Images(), *["https://example.com/a.png"] * 21)

    asyncio.run(fetch())


def test_a_tenant_that_waits_for_its_images_keeps_nobody_else_waiting(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "QUEUE_PATIENCE", timedelta(seconds=0.3))

    async def fetch() -> None:
        async with elsewhere(certificate) as server:
            base, its = f"https://{HOST}:{server.port}", images(server, certificate)
            slow = [asyncio.create_task(sent(its, f"{base}/slow")) for _ in range(fetching.MOST_OF_TENANT)]
            for _ in slow:
                await server.has_begun.acquire()
            with pytest.raises(ServiceUnavailable, match="data:") as refused:
                await sent(its, f"{base}/a.png")
            assert refused.value.retry_after == timedelta(seconds=2)
            assert await sent(its, pictures.data_url(PNG))  # which nobody fetches
            assert await sent(its, f"{base}/a.png", tenant_id=OTHER)
            for one in slow:
                one.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            assert await sent(its, f"{base}/a.png")

    asyncio.run(fetch())


def test_a_process_fetches_for_so_many_at_once(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "QUEUE_PATIENCE", timedelta(seconds=0.2))
    monkeypatch.setattr(fetching, "MOST_AT_ONCE", 1)

    async def fetch() -> None:
        async with elsewhere(certificate) as server:
            base, its = f"https://{HOST}:{server.port}", images(server, certificate)
            slow = asyncio.create_task(sent(its, f"{base}/slow"))
            await server.has_begun.acquire()
            with pytest.raises(ServiceUnavailable):
                await sent(its, f"{base}/a.png", tenant_id=OTHER)
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            assert await sent(its, f"{base}/a.png", tenant_id=OTHER)

    asyncio.run(fetch())


def test_a_dead_dns_costs_its_caller_the_time_and_nobody_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", timedelta(seconds=0.2))
    may_end, asked = threading.Event(), []
    real = socket.getaddrinfo

    def dead(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "dead.example":
            return real(host, *arguments, **options)
        asked.append(threading.current_thread().name)
        may_end.wait(20)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", dead)

    async def fetch() -> None:
        its = Images()
        try:
            waiting = [sent(its, "https://dead.example/a.png") for _ in range(fetching.MOST_OF_TENANT)]
            refusals = await asyncio.gather(*waiting, return_exceptions=True)
            assert ["did not arrive within" in str(one) for one in refusals] == [True] * len(waiting)
            assert {name.partition("_")[0] for name in asked} == {"image-names"}
            with pytest.raises(InvalidRequest, match="not on the public internet"):
                await sent(its, "https://localhost/", tenant_id=OTHER)
            assert await asyncio.wait_for(asyncio.to_thread(bool, 1), 1)
        finally:
            may_end.set()

    asyncio.run(fetch())

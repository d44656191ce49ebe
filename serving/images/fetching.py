"""Fetches the images that callers name, so that engines never do. The rules are `rules.py`.

A name is resolved here, each of its addresses is checked, and the connection goes to a checked address and nowhere
else: a second answer of the DNS changes nothing. Redirects start again from the first rule.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
from yarl import URL

from serving.authorities import client_tls
from serving.fleet.view import Variant
from serving.images import rules
from serving.images.parts import ImagePart, read_parts, with_urls
from serving.images.rules import Address, Pixels, refused
from serving.tokens.wire import Call
from studio.errors import InvalidRequest, ServiceUnavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MOST_BYTES = 20 * 1024 * 1024  # of all that one request has fetched
MOST_AT_ONCE = 32  # requests of this process that fetch
MOST_OF_TENANT = 4  # of these
MOST_REDIRECTS = 3
PATIENCE = timedelta(seconds=15)  # with all images of one request
QUEUE_PATIENCE = timedelta(seconds=5)  # until a request's turn comes
_PIECE_BYTES = 64 * 1024

Resolve = Callable[[str, int], Awaitable[list[Address]]]


# A lookup cannot be cancelled, and a dead DNS keeps its thread longer than anybody waits. So these are no threads that
# others need, and more than one tenant can hold.
_LOOKUPS = ThreadPoolExecutor(4 * MOST_OF_TENANT, thread_name_prefix="image-names")


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, as the system's resolver says, however the name is written."""
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, _look_up, host, port)
    return [ip_address(address) for address in found]


def _look_up(host: str, port: int) -> list[str]:
    return [str(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Images:
    """Makes every image of a call one that an engine can read without asking anybody."""

    def __init__(
        self,
        allowed_hosts: frozenset[str] = frozenset(),
        *,
        resolve: Resolve = resolve,
        is_allowed: Callable[[Address], bool] = rules.is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed_hosts = allowed_hosts
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._tls = tls
        self._turns = _Turns()

    async def handed_over(self, call: Call, variant: Variant, tenant_id: UUID) -> Call:
        """The same call with each image in it. InvalidRequest names the image and the rule that it breaks;
        ServiceUnavailable says that too many are being fetched."""
        given = call.payload.get("messages")
        if given is None:
            return call
        messages, images = read_parts(given)
        if images:
            if not variant.vision:
                raise InvalidRequest(
                    f"The model `{call.model}` does not read images; `/v1/models` shows which do (`vision`).",
                    param=images[0].where,
                )
            messages = with_urls(messages, await self._as_data(images, tenant_id))
        return msgspec.structs.replace(call, payload=call.payload | {"messages": messages})

    async def _as_data(self, images: list[ImagePart], tenant_id: UUID) -> dict[ImagePart, str]:
        rules.check_number(images)
        allowance = _Allowance()
        remote: dict[ImagePart, URL] = {}
        for image in images:
            if image.url[:5].lower() == "data:":
                rules.check_data_url(image.url, allowance.pixels, image.where)
            else:
                remote[image] = rules.check_url(image.url, self._allowed_hosts, image.where)
        if not remote:
            return {}
        async with self._turns.of(tenant_id):
            return await self._fetch_all(remote, allowance)

    async def _fetch_all(self, remote: dict[ImagePart, URL], allowance: _Allowance) -> dict[ImagePart, str]:
        fetched: dict[ImagePart, str] = {}
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                # One after the other: a request shall not have many connections of ours.
                for image, url in remote.items():
                    fetched[image] = await self._fetch(url, allowance, image.where)
        except TimeoutError as error:
            late = next(image for image in remote if image not in fetched)
            raise refused(f"it did not arrive within {PATIENCE.total_seconds():.0f} s", late.where) from error
        return fetched

    async def _fetch(self, url: URL, allowance: _Allowance, where: str) -> str:
        for _ in range(1 + MOST_REDIRECTS):
            addresses = await self._checked_addresses(url, where)
            answer = await asyncio.to_thread(_client)
            try:
                async with answer(url, addresses, self._tls or client_tls(), _HEADERS) as response:
                    if not 300 <= response.status < 400:
                        return await _read(response, allowance, where)
                    location = response.headers.get("location", "")
            except (OSError, ValueError) as error:
                raise refused("its server could not be reached or broke off", where) from error
            url = rules.check_url(_joined(url, location, where), self._allowed_hosts, where)
        raise refused(f"it is redirected more than {MOST_REDIRECTS} times", where)

    async def _checked_addresses(self, url: URL, where: str) -> list[Address]:
        assert url.host is not None  # `check_url` has looked
        assert url.port is not None
        try:
            addresses = await self._resolve(url.host, url.port)
        except (OSError, ValueError, UnicodeError) as error:
            raise refused("the name of its host cannot be resolved", where) from error
        # All of them, not one that fits: a name with a public and a private address is somebody's trick.
        if not addresses or not all(self._is_allowed(address) for address in addresses):
            raise refused("its host is not on the public internet", where)
        return addresses


def _client() -> Callable[..., AbstractAsyncContextManager[ClientResponse]]:
    """With the first image of a process comes what fetches it. In a thread, since streams go on meanwhile."""
    from serving.images.download import answer

    return answer


_HEADERS = {"accept": "image/png, image/jpeg, image/webp, image/gif", "accept-encoding": "identity"}


class _Turns:
    """Who may fetch now. A tenant whose servers are slow waits for itself, and not all others for it."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MOST_AT_ONCE)
        self._of_tenant: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, tenant_id: UUID) -> AsyncIterator[None]:
        """Lasts as long as the block."""
        own = self._of_tenant.setdefault(tenant_id, asyncio.Semaphore(MOST_OF_TENANT))
        held: list[asyncio.Semaphore] = []
        try:
            try:
                async with asyncio.timeout(QUEUE_PATIENCE.total_seconds()):
                    for one in (own, self._all):
                        await one.acquire()
                        held.append(one)
            except TimeoutError as error:
                raise ServiceUnavailable(
                    "Too many images are being fetched at the moment.",
                    retry_after=timedelta(seconds=2),
                    way_out="Try again in 2 s, or send them as `data:` URLs.",
                ) from error
            yield
        finally:
            for one in held:
                one.release()


@dataclass(slots=True)
class _Allowance:
    """What the images of one request may still weigh, as files and unpacked."""

    bytes: int = MOST_BYTES
    pixels: Pixels = field(default_factory=Pixels)

    def take(self, bytes: int, where: str) -> None:
        self.bytes -= bytes
        if self.bytes < 0:
            raise refused(f"the images of a request may have {MOST_BYTES:,} bytes in all", where)


async def _read(response: ClientResponse, allowance: _Allowance, where: str) -> str:
    if response.status != 200:
        raise refused(f"its server answered {response.status}", where)
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not content_type.startswith("image/"):
        raise refused(f"its server calls it {content_type[:80] or 'nothing'!r}, not an image", where)
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise refused("its server compressed it although asked not to", where)
    if (response.content_length or 0) > allowance.bytes:
        allowance.take(response.content_length or 0, where)
    content = bytearray()
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        allowance.take(len(piece), where)
        content += piece
    kind = allowance.pixels.take(bytes(content), where)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _joined(url: URL, location: str, where: str) -> str:
    try:
        return str(url.join(URL(location)))
    except ValueError as error:
        raise refused("it is redirected to something that is no URL", where) from error


def allowed_hosts(setting: str) -> frozenset[str]:
    """From the setting: hosts, or hosts with a port, with commas between."""
    return frozenset(filter(None, (one.strip().rstrip(".").lower() for one in setting.split(","))))

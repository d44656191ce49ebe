"""One answer from one checked address, by aiohttp. Loaded with the first image that is fetched, not before: most
gateways fetch none, and it takes 5 MB."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import ClientResponse
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from serving.images.rules import Address


class Pinned(AbstractResolver):
    """A resolver that knows one answer."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def answer(
    url: URL, addresses: list[Address], tls: ssl.SSLContext, headers: Mapping[str, str]
) -> AsyncIterator[ClientResponse]:
    """Asks those addresses and no others, and follows nothing. OSError when nobody answers or an answer breaks off."""
    connector = aiohttp.TCPConnector(resolver=Pinned(addresses), use_dns_cache=False, force_close=True, ssl=tls)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            yield response
    except aiohttp.ClientError as error:
        raise ConnectionError(str(error)) from error

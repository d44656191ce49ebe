"""Which addresses an image may come from, and what is an image. Pure; `fetching.py` keeps the rules.

A caller chooses the address and we connect from inside our network, so everything that is not plainly public is
refused: by the addresses that a name resolves to, never by how the name is written.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from yarl import URL

from serving.images.headers import Unreadable, read_header
from serving.images.parts import ImagePart
from studio.errors import InvalidRequest

Address = IPv4Address | IPv6Address

HTTPS_PORT = 443
MOST_IMAGES = 20  # of one request
MOST_PIXELS = 40_000_000  # of one image; each is some bytes in the engine, however small the file is
MOST_PIXELS_IN_ALL = 80_000_000  # of one request

# IANA's special-purpose registries, and what is not unicast. 192.88.99.0/24 leads to 6to4 relays.
_SPECIAL_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All public unicast addresses of today begin with 001; loopback, link-local, unique-local, multicast, IPv4-mapped and
# NAT64 addresses do not. What within hides an IPv4 address (Teredo, 6to4) or is for examples is taken out again.
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet, and of nothing else."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address.scope_id is None and address in _GLOBAL_V6 and not any(address in one for one in _SPECIAL_V6)


@dataclass(slots=True)
class Pixels:
    """What the images of one request may still unpack to."""

    left: int = MOST_PIXELS_IN_ALL

    def take(self, content: bytes, where: str) -> str:
        """One image of it; its type."""
        try:
            header = read_header(content)
        except Unreadable as error:
            raise refused(str(error), where) from error
        if header.pixels > MOST_PIXELS:
            size = f"{header.width:,} x {header.height:,}"
            raise refused(f"it has {size} pixels; {MOST_PIXELS:,} are allowed. Send it smaller", where)
        self.left -= header.pixels
        if self.left < 0:
            raise refused(
                f"the images of a request may have {MOST_PIXELS_IN_ALL:,} pixels in all. Send fewer or smaller", where
            )
        return header.type


def check_number(images: Sequence[ImagePart]) -> None:
    """That a request, or a line of a batch, has no more images than are read."""
    if len(images) > MOST_IMAGES:
        raise refused(f"a request may have at most {MOST_IMAGES} images", images[MOST_IMAGES].where)


def check_data_url(url: str, pixels: Pixels, where: str) -> None:
    """That it holds an image of a kind that models read, and not too large a one."""
    match = _DATA_URL.match(url)
    if match is None:
        raise refused("a `data:` URL must look like `data:image/png;base64,...`", where)
    try:
        # All of it: what an engine makes of stray characters need not be what we make of them.
        content = base64.b64decode(url[match.end() :], validate=True)
    except ValueError as error:
        raise refused("the `data:` URL is not valid base64", where) from error
    pixels.take(content, where)


class UnfitUrl(ValueError):
    """An address that is not asked, and why."""


def check_url(text: str, allowed_hosts: frozenset[str], where: str) -> URL:
    """An address that may be asked, if its name resolves to public addresses. `allowed_hosts`: empty for all; with a
    port in it, that port."""
    try:
        return fit_url(text, allowed_hosts)
    except UnfitUrl as error:
        raise refused(str(error), where) from error


def fit_url(text: str, allowed_hosts: frozenset[str]) -> URL:
    """The same for whoever asks an address that a caller chose; UnfitUrl says which rule it breaks."""
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise UnfitUrl("it is not a valid URL") from error
    if url.scheme != "https":
        raise UnfitUrl(f"only `https:` and `data:` URLs are read, not `{url.scheme[:20]}:`")
    if not host:
        raise UnfitUrl("the URL names no host")
    if url.user is not None or url.password is not None:
        raise UnfitUrl("the URL must not contain a user or a password")
    name = host.rstrip(".").lower()
    if f"{name}:{port}" in allowed_hosts:
        return url
    if port != HTTPS_PORT:
        raise UnfitUrl(f"only port {HTTPS_PORT} is allowed, not {port}")
    if allowed_hosts and name not in allowed_hosts:
        raise UnfitUrl(f"the host `{name[:100]}` is not among those that this gateway may ask")
    return url


def refused(why: str, where: str) -> InvalidRequest:
    """An image that is not taken, and the rule that says so."""
    return InvalidRequest(f"The image in `{where}` cannot be used: {why}.", code="invalid_image_url", param=where)

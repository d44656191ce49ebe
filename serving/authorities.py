"""Whom this process trusts when it calls somebody over TLS: the system's certificate authorities, read once."""

import ssl
from functools import cache


@cache
def client_tls() -> ssl.SSLContext:
    """One context for all clients. Reading the authorities takes 20 ms and 1 MB, and many processes need none."""
    return ssl.create_default_context()

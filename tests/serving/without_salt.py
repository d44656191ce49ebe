"""A gateway whose tenants share the engines' caches, as one would that forgot the salt."""

from __future__ import annotations

from unittest.mock import patch

from serving import __main__ as gateway
from serving.tokens import relay

if __name__ == "__main__":
    with patch.object(relay, "cache_salt", lambda *_: ""):
        gateway.main()

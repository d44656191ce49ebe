"""A gateway that has no patience when it stops: `python -m tests.serving.short_grace`."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

from serving import process as gateway

if __name__ == "__main__":
    with patch.object(gateway, "GRACE", timedelta(seconds=1)):
        gateway.main()

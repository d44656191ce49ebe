"""A gateway whose journal begins a new segment after some twenty requests: `python -m tests.serving.small_segments`."""

from __future__ import annotations

from unittest.mock import patch

from serving import __main__ as gateway
from serving import journal

SEGMENT_BYTES = 6000

if __name__ == "__main__":
    with patch.object(journal, "SEGMENT_BYTES", SEGMENT_BYTES):
        gateway.main()

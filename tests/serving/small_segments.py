"""A gateway whose journal begins a new segment after some twenty requests: `python -m tests.serving.small_segments`."""

from __future__ import annotations

from unittest.mock import patch

from serving import journal
from serving import process as gateway

SEGMENT_BYTES = 6000

if __name__ == "__main__":
    with patch.object(journal, "SEGMENT_BYTES", SEGMENT_BYTES):
        gateway.main()

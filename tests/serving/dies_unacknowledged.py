"""A gateway that is killed between a shipment's commit and the moment when it would know of it:
`python -m tests.serving.dies_unacknowledged N`, N shipments after its start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from itertools import count
from unittest.mock import patch
from uuid import UUID

import psycopg

from serving import process as gateway
from serving import shipper
from serving.journal_segments import Record

if __name__ == "__main__":
    ship, numbers, last = shipper._ship, count(1), int(sys.argv[1])

    def ship_and_die(connection: psycopg.Connection, source_id: UUID, records: Iterable[Record]) -> None:
        ship(connection, source_id, records)
        if next(numbers) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(shipper, "_ship", ship_and_die):
        gateway.main()

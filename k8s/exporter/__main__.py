"""`python -m k8s.exporter`: the server in a thread, the sampler in the main one, so that its end is the process's."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event, Thread

import structlog

from k8s.exporter.sampler import Sampler
from k8s.exporter.server import ExporterServer
from k8s.exporter.settings import SettingInvalid, from_environment
from studio import logs

log = structlog.get_logger()


def main() -> int:
    """Until SIGTERM or SIGINT. 2 when a setting is wrong or the port is taken."""
    try:
        settings = from_environment(os.environ)
        logs.configure(settings.log_format)
        sampler = Sampler(settings)
        server = ExporterServer(settings, sampler)
    except (SettingInvalid, OSError) as error:
        print(f"The exporter cannot start: {error}", file=sys.stderr)
        return 2
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Thread(target=server.serve_forever, name="server", daemon=True).start()
    log.info("exporter_started", port=server.server_port, library=str(settings.library))
    sampler.run(stop)
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

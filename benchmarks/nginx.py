"""nginx as the peer: a reverse proxy with streaming on and nothing else, one worker, tuned as far as we know how."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from urllib.parse import urlsplit

from tests.server import free_port

# Without the keepalive lines nginx reconnects for every request, or every 1000, and looks slow.
CONFIGURATION = """
daemon off;
worker_processes 1;
error_log stderr error;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream engine {{
    server {upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class NginxNotInstalled(Exception):
    def __init__(self) -> None:
        super().__init__("nginx is the peer of this benchmark and is not on PATH: apt-get install nginx-light")


@dataclass(frozen=True, slots=True)
class Nginx:
    url: str
    pid: int


@contextmanager
def nginx_in_front_of(upstream_url: str) -> Iterator[Nginx]:
    program = shutil.which("nginx")
    if program is None:
        raise NginxNotInstalled
    with TemporaryDirectory(prefix="studio-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the worker is another user when we are root
        port = free_port()
        configuration = CONFIGURATION.format(folder=folder, upstream=urlsplit(upstream_url).netloc, port=port)
        (folder / "nginx.conf").write_text(configuration)
        process = subprocess.Popen([program, "-p", name, "-c", "nginx.conf", "-e", "stderr"])
        try:
            _wait_until_listening(port, process)
            yield Nginx(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + 10
    while monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}; its reason is on stderr")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            sleep(0.05)
        else:
            return
    raise TimeoutError(f"nginx does not listen on port {port}")

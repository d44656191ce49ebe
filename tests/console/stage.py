"""The stage of the browser tests: a real gateway with the built console, real PostgreSQL, engines that answer.

What only the house can do while a test runs (a model warms up, the gateway dies) is a knock on a door of the stage: a
POST to `<doors>/<what>`.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from studio import clock
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from studio.signin_links import create_link
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.console.echo_engine import echo_engine
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, attach
from tests.serving.oidc.conftest import PEOPLE
from tests.serving.oidc.provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ProviderProcess, SigningKeys
from tests.serving.test_speeds import streamed
from tests.stub_engine import StubEngine

BUILT = REPOSITORY / "build" / "console"
ECHO = "qwen3-32b"
SLEEPER = "baichuan2-13b-chat"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a browser finds what it needs."""

    url: str
    doors: str
    key: str
    poor_key: str  # may read usage and nothing else
    link: str  # signs in once

    @property
    def environment(self) -> dict[str, str]:
        """For Playwright."""
        return {
            "CONSOLE_URL": self.url,
            "CONSOLE_DOORS": self.doors,
            "CONSOLE_KEY": self.key,
            "CONSOLE_POOR_KEY": self.poor_key,
            "CONSOLE_LINK": self.link,
        }


@contextmanager
def staged(house: House, folder: Path) -> Iterator[Stage]:
    """Up for as long as the block."""
    folder.mkdir(exist_ok=True)
    with unit_of_work(house.operator) as session:
        poor = create_key(session, house.tenant_id, "poor", "tests", scopes=["usage"])
        link = create_link(session, "laptop", "tests", tenants=["acme"], roles=["owner"], everywhere=[])
    new_tenant(house.operator, "globex")
    gateway = GatewayProcess(house.database, folder, settings={"STUDIO_CONSOLE_DIR": str(BUILT)})
    provider = ProviderProcess(folder, PEOPLE, SigningKeys("first"), gateway.url)
    gateway.set(
        STUDIO_OIDC_ISSUER=provider.issuer,
        STUDIO_OIDC_AUDIENCE=AUDIENCE,
        STUDIO_OIDC_CLIENT_ID=CLIENT_ID,
        STUDIO_OIDC_CLIENT_SECRET=CLIENT_SECRET,
        STUDIO_TRY_IT="true",
        STUDIO_TRY_IT_REQUESTS_PER_VISITOR="100",
    )
    with (
        StubEngine(tokens_per_second=60, cached=3) as stub,
        echo_engine() as echo,
        provider,
        gateway,
    ):
        attach(house.operator, stub.url)
        attach(house.operator, stub.url, EMBEDDING)
        attach(house.operator, echo, ECHO)
        sleeping = attach(house.operator, stub.url, SLEEPER, state="starting")

        def become(state: str) -> None:
            # What a node agent says of its replicas.
            with house.database.superuser() as connection:
                connection.execute(
                    "update replicas set state = %s, created_at = now(), ready_at = case %s when 'ready' then now() end"
                    " where id = %s",
                    [state, state, sleeping],
                )

        def expire() -> None:
            with house.database.superuser() as connection:
                connection.execute("update web_sessions set ended_at = now() where ended_at is null")

        # As if there had been as many visitors: below twenty nothing is said of a model's speed.
        for number in range(24):
            started_at = clock.now() - timedelta(minutes=number)
            streamed(house, CHAT, started_at, 90 + 3 * number, 61, 0.9)
            streamed(house, CHAT_FAST, started_at, 55 + 2 * number, 61, 0.5)

        ways = {
            "/expire": expire,
            "/sleep": lambda: become("starting"),
            "/wake": lambda: become("ready"),
            "/kill": gateway.kill,
            "/start": gateway.start,
        }
        with _doors(ways) as doors:
            signing_in = f"{gateway.url}/en/signin#link={link.token}"
            yield Stage(gateway.url, doors, house.key.text, poor.text, signing_in)


@contextmanager
def _doors(doors: dict[str, Callable[[], None]]) -> Iterator[str]:
    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            doors[self.path]()
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def play(stage: Stage | None, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Playwright and wait for it."""
    return subprocess.run(
        ["node_modules/.bin/playwright", "test", *arguments],
        cwd=REPOSITORY / "console",
        env=environment | (stage.environment if stage else {}),
        text=True,
        capture_output=True,
        timeout=1_200,
        check=False,
    )

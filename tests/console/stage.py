"""The stage of the browser tests: a real gateway with the built console, real PostgreSQL, engines that answer.

What only the house can do while a test runs (a model warms up, the gateway dies) is a knock on a door of the stage: a
POST to `<doors>/<what>`, which answers with what there is to say.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

from local.objects import EmbeddedObjectStore
from studio import clock
from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.limits import Ceilings, Scope, set_limits
from studio.settings import REPOSITORY
from studio.signin_links import create_link
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.console.echo_engine import echo_engine
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, attach
from tests.serving.oidc.conftest import PEOPLE
from tests.serving.oidc.provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ProviderProcess, SigningKeys
from tests.serving.test_speeds import streamed
from tests.stub_engine import StubEngine

BUILT = REPOSITORY / "build" / "console"
ECHO = "qwen3-32b"
SEER = "qwen2.5-vl-7b"  # reads pictures
SLEEPER = "baichuan2-13b-chat"
NOBODY = "http://127.0.0.1:9"  # the port of `discard`, where nobody answers


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a browser finds what it needs."""

    url: str
    doors: str
    key: str
    poor_key: str  # may read usage and nothing else
    spent_key: str  # has no credit left
    narrow_key: str  # may ask one thing at a time

    @property
    def environment(self) -> dict[str, str]:
        """For Playwright."""
        return {
            "CONSOLE_URL": self.url,
            "CONSOLE_DOORS": self.doors,
            "CONSOLE_KEY": self.key,
            "CONSOLE_POOR_KEY": self.poor_key,
            "CONSOLE_SPENT_KEY": self.spent_key,
            "CONSOLE_NARROW_KEY": self.narrow_key,
        }


def report_october(house: House) -> None:
    """A month's objectives, of which one was missed, and a day of the tenant that was billed at base for it."""
    with house.database.superuser() as connection:
        connection.execute(
            "insert into slo_figures (month, objective, subject, value, target, is_met, samples) values"
            " ('2026-10-01', 'availability', %(chat)s, 0.9972, 0.995, true, 792000),"
            " ('2026-10-01', 'availability', %(echo)s, 0.981, 0.995, false, 792000),"
            " ('2026-10-01', 'first_token_ms_p50', %(chat)s, 96.4, 120, true, 400),"
            " ('2026-10-01', 'prewarm', %(chat)s, 1, null, null, 22),"
            " ('2026-10-01', 'usage_error', %(chat)s, null, 0.02, null, 0)",
            {"chat": CHAT, "echo": ECHO},
        )
        connection.execute("set session_replication_role = replica")  # the day and its seal are left out
        connection.execute(
            "insert into rated_lines (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis,"
            " legal_entity_id, currency, tokens, per_million, amount, code_version)"
            " select '2026-10-07', t.id, 1, f.variant_id, f.unit, b.id, '2026-10-07', 'missed_target', 'xpulink-de',"
            " 'EUR', 1000000, b.per_million, b.per_million, 'tests'"
            " from tenants t, prices f join prices b using (unit, currency)"
            " where t.id = %s and f.variant_id = %s and b.variant_id = %s and f.unit = 'completion'"
            " and f.currency = 'EUR' and f.valid_until is null and b.valid_until is null",
            [house.tenant_id, CHAT_FAST, CHAT],
        )


@contextmanager
def staged(house: House, objects: EmbeddedObjectStore, folder: Path) -> Iterator[Stage]:
    """Up for as long as the block."""
    folder.mkdir(exist_ok=True)
    with unit_of_work(house.operator) as session:
        poor = create_key(session, house.tenant_id, "poor", "tests", scopes=["usage"])
        spent = create_key(session, house.tenant_id, "spent", "tests")
        narrow = create_key(session, house.tenant_id, "narrow", "tests")
        session.flush()
        set_limits(session, Scope(house.tenant_id, narrow.id, None), Ceilings(concurrent_requests=1), "tests")
        put_budget(session, house.tenant_id, spent.id, "prepaid", Decimal("0.000000000001"), "tests")
    new_tenant(house.operator, "globex")
    gateway = GatewayProcess(house.database, folder, settings={"STUDIO_CONSOLE_DIR": str(BUILT)} | objects.environment)
    provider = ProviderProcess(folder, PEOPLE, SigningKeys("first"), gateway.url)
    gateway.set(
        STUDIO_OIDC_ISSUER=provider.issuer,
        STUDIO_OIDC_AUDIENCE=AUDIENCE,
        STUDIO_OIDC_CLIENT_ID=CLIENT_ID,
        STUDIO_OIDC_CLIENT_SECRET=CLIENT_SECRET,
        STUDIO_TRY_IT="true",
        STUDIO_TRY_IT_REQUESTS_PER_VISITOR="100",
    )
    workers = Workers(house.database.environment("worker") | objects.environment, folder / "workers.log")
    with (
        StubEngine(tokens_per_second=60, cached=3) as stub,
        echo_engine() as echo,
        provider,
        gateway,
    ):
        attach(house.operator, stub.url)
        attach(house.operator, stub.url, EMBEDDING)
        attach(house.operator, echo, ECHO)
        attach(house.operator, echo, SEER)
        sleeping = attach(house.operator, stub.url, SLEEPER, state="starting")

        with house.database.superuser() as connection:
            connection.execute(
                "insert into warmups (id, replica_id, variant_id, started_at, weights_seconds, start_seconds,"
                " first_token_seconds, ready_at) values (%s, %s, %s, now(), 20, 35, 5, now())",
                [uuid4(), sleeping, SLEEPER],
            )

        def become(state: str, url: str = stub.url) -> None:
            # What a node agent says of its replicas.
            with house.database.superuser() as connection:
                for told in ("engine_pods", "desired_replicas"):
                    connection.execute(f"delete from {told} where variant_id = %s", [SLEEPER])
                connection.execute(
                    "update replicas set state = %s, url = %s, created_at = now(),"
                    " ready_at = case %s when 'ready' then now() end where id = %s",
                    [state, url, state, sleeping],
                )
                # A stopped one is the fleet's own, which starts it again; all others here are attached and no site's.
                connection.execute(
                    "update model_variants set deployed = %s where id = %s", [state == "stopped", SLEEPER]
                )

        def stick() -> None:
            # What the driver of a cluster says of pods that cannot start.
            become("ready", NOBODY)
            with house.database.superuser() as connection:
                connection.execute(
                    "insert into desired_replicas values (%s, 1, 'opens', now()) on conflict do nothing", [SLEEPER]
                )
                connection.execute(
                    "insert into engine_pods values (%s, 'stuck', 'image', 'ErrImagePull', now(), now(), now())"
                    " on conflict do nothing",
                    [SLEEPER],
                )

        def link() -> str:
            # When it is wanted: one lives for a quarter of an hour, and the whole run takes longer.
            with unit_of_work(house.operator) as session:
                made = create_link(session, "laptop", "tests", tenants=["acme"], roles=["owner"], everywhere=[])
            return f"{gateway.url}/en/signin#link={made.token}"

        def expire() -> None:
            with house.database.superuser() as connection:
                connection.execute("update web_sessions set ended_at = now() where ended_at is null")

        # As if there had been as many visitors: below twenty nothing is said of a model's speed.
        for number in range(24):
            started_at = clock.now() - timedelta(minutes=number)
            streamed(house, CHAT, started_at, 90 + 3 * number, 61, 0.9)
            streamed(house, CHAT_FAST, started_at, 55 + 2 * number, 61, 0.5)

        report_october(house)
        with house.database.superuser() as connection:
            connection.execute(
                "update model_variants set first_token_target_ms = 400, first_token_target_prompt_tokens = 4000"
                " where id = %s",
                [CHAT_FAST],
            )
            connection.execute("update models set sunset_on = '2027-03-31' where id = %s", [SEER])

        def reprice() -> None:
            # What the synchronisation of the catalog does with a new entry of a price list.
            with house.database.superuser() as connection:
                current = "variant_id = %s and unit = 'completion' and currency = 'EUR' and valid_until is null"
                connection.execute(f"update prices set valid_until = now() where {current}", [ECHO])
                connection.execute(
                    "insert into prices (variant_id, unit, currency, per_million, valid_from)"
                    " values (%s, 'completion', 'EUR', 7.77, now())",
                    [ECHO],
                )

        ways: dict[str, Callable[[], object]] = {
            "/expire": expire,
            "/link": link,
            "/sleep": lambda: become("starting"),
            "/wake": lambda: become("ready"),
            "/close": lambda: become("stopped"),
            "/vanish": lambda: become("ready", NOBODY),
            "/stick": stick,
            "/kill": gateway.kill,
            "/start": gateway.start,
            "/drain": workers.start,
            "/reprice": reprice,
        }
        with _doors(ways) as doors:
            try:
                yield Stage(gateway.url, doors, house.key.text, poor.text, spent.text, narrow.text)
            finally:
                workers.kill()


@contextmanager
def _doors(doors: dict[str, Callable[[], object]]) -> Iterator[str]:
    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = doors[self.path]()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said.encode() if isinstance(said, str) else b"")

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
        timeout=1_750,
        check=False,
    )

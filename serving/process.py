"""One gateway process. Two listeners, one event loop, one thread each for journal and shipper.

SIGTERM or SIGINT: not ready any more, streams get `GRACE` to end, usage is shipped, the source is closed, exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Generator
from datetime import timedelta

import structlog
import uvicorn
import uvloop
from pydantic import SecretStr

from serving.app import public_application
from serving.budgets.book import Budgets
from serving.budgets.draws import Draws
from serving.cache.cache import Cache
from serving.cache.shelf import Shelf
from serving.cross_check.checker import CrossCheck
from serving.engines import Engines
from serving.feed import Feed
from serving.fleet.view import FleetView
from serving.full_disk import end_when_there_is_room
from serving.gateway import Gateway
from serving.http_protocol import KEEP_ALIVE_SECONDS, HttpProtocol
from serving.idempotency.application import forget_expired
from serving.idempotency.store import Store
from serving.identity.callers import Callers, People
from serving.identity.directory import Directory
from serving.identity.provider import Provider
from serving.identity.sign_ins import SignIns
from serving.identity.uses import KeyUses
from serving.images.fetching import Images, allowed_hosts
from serving.internal import Lifecycle, internal_application
from serving.journal import Journal
from serving.keys import Keys
from serving.limits.limiter import Limiter
from serving.limits.rules import RuleBook
from serving.metrics import Metrics
from serving.probing import probe_forever
from serving.shipper import Shipper
from serving.sign_in.code_flow import CodeFlow
from serving.sign_in.cookies import Cookies
from serving.sign_in.desk import Desk
from serving.sign_in.sessions import WebSessions
from serving.speeds import Speeds
from serving.traces import Traces
from serving.try_it.allowance import Allowance
from serving.try_it.box import TryIt
from studio import ids, logs
from studio.db.sessions import engine_for
from studio.sealing import seal
from studio.settings import SettingMissing, Settings, settings

GRACE = timedelta(seconds=20)
LAST_WORDS = timedelta(seconds=5)  # for the streams cut after the grace to record their usage and say so
SHIPPER_LOOK = timedelta(seconds=1)
STATEMENT_SECONDS = 30  # nothing that a caller asks for takes the database so long; a worker waits for it meanwhile

log = structlog.get_logger()


class ShipperDied(Exception):
    """Its reason is in the log."""


class _Listener(uvicorn.Server):
    """uvicorn without its signal handlers: two of them in one process would fight for the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _freeze() -> None:
    """What is made at the start stays, so nothing need look through it again and again."""
    gc.collect()
    gc.freeze()


async def run(config: Settings) -> None:
    """Until a signal says to stop."""
    if config.cache_salt_key is None:
        raise SettingMissing("STUDIO_CACHE_SALT_KEY is not set for this process")
    journal = Journal.create(config.journal_dir, ids.uuid7())
    database = engine_for(config.database_url("gateway"), statement_seconds=STATEMENT_SECONDS)
    keys, view, rules, directory, uses = Keys(), FleetView(seal()), RuleBook(), Directory(), KeyUses(database)
    budgets, sessions = Budgets(Draws(database, journal.source_id)), WebSessions(database, seal())
    # Keys last: until they are read every call is asked to wait, so nobody meets a catalog or a budget not yet read.
    feed = Feed(config.database_url("gateway"), (budgets, rules, view, directory, sessions, keys))
    shipper = Shipper(journal, config.database_url("shipper"))
    valkey_url, engines, metrics = _text(config.valkey_url), Engines(), Metrics()
    salt_key = config.cache_salt_key.get_secret_value().encode()
    try_it, people = TryIt(database, _allowance(config, salt_key), is_on=config.try_it), _people(config)
    callers = Callers(keys, uses, directory, SignIns(database), people, sessions, try_it)
    gateway = Gateway(
        keys=keys,
        callers=callers,
        desk=_desk(config, callers, sessions, people),
        try_it=try_it,
        speeds=Speeds(database),
        view=view,
        limits=Limiter(rules, journal.source_id, valkey_url),
        budgets=budgets,
        engines=engines,
        images=Images(allowed_hosts(config.image_hosts)),
        cache=Cache(Shelf(valkey_url, seal(), config.cache_bytes_per_tenant), engines, view),
        journal=journal,
        metrics=metrics,
        traces=Traces(config.traces_url, config.traces_share),
        cross_check=CrossCheck(engines, view, metrics, database, config.cross_check_share),
        cache_salt_key=salt_key,
        max_body_bytes=config.max_body_bytes,
    )
    lifecycle, answers = Lifecycle(), Store(database, seal())
    public = _listener(public_application(gateway, database, answers), config.gateway_host, config.gateway_port)
    internal = _listener(
        internal_application(gateway, feed, shipper, lifecycle),
        config.gateway_internal_host,
        config.gateway_internal_port,
    )

    shipper.start()
    works = (
        feed.run(),
        uses.run(),
        gateway.limits.run(),
        gateway.cache.shelf.run(),
        gateway.cross_check.run(),
        budgets.tidy(),
        forget_expired(answers),
        probe_forever(gateway.engines, view),
        _ships(shipper, lifecycle),
        end_when_there_is_room(journal, shipper),
    )
    background = [asyncio.create_task(work) for work in works]
    serving_internal = asyncio.create_task(internal.serve())

    def stop() -> None:
        lifecycle.is_stopping = True
        public.should_exit = True

    def ended(work: asyncio.Task[None]) -> None:
        if not work.cancelled() and work.exception() is not None:
            # Without it a gateway would go on with old keys or money held back. Its supervisor starts another.
            log.error("background_work_ended", work=str(work.get_coro()), exc_info=work.exception())
            stop()

    for work in background:
        work.add_done_callback(ended)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    _freeze()
    log.info("gateway_starting", source=str(journal.source_id), url=config.gateway_url)
    try:
        await public.serve([_shared_port(config)] if config.gateway_shares_port else None)
        if tasks := public.server_state.tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS.total_seconds())
    finally:
        lifecycle.is_stopping = True
        await journal.close()
        await asyncio.to_thread(shipper.stop)
        await gateway.engines.close()
        await asyncio.to_thread(gateway.traces.close)
        await gateway.limits.close()
        gateway.try_it.allowance.close()
        for work in background:
            work.cancel()
        database.dispose()
        internal.should_exit = True
        await serving_internal
        log.info("gateway_stopped", source=str(journal.source_id), usage_pending=shipper.pending)


async def _ships(shipper: Shipper, lifecycle: Lifecycle) -> None:
    """As long as usage finds its way. Without a shipper it would wait here until somebody looked."""
    while True:
        await asyncio.sleep(SHIPPER_LOOK.total_seconds())
        if not (shipper.is_alive or lifecycle.is_stopping):
            raise ShipperDied


def _shared_port(config: Settings) -> socket.socket:
    """The kernel spreads connections over all processes that listen so. Not by default: a gateway that was forgotten
    would take its share in silence."""
    family = socket.AF_INET6 if ":" in config.gateway_host else socket.AF_INET
    return socket.create_server((config.gateway_host, config.gateway_port), family=family, reuse_port=True)


def _people(config: Settings) -> People | None:
    if config.oidc_issuer is None:
        return None
    provider = Provider(config.oidc_issuer, config.oidc_audience)
    return People(provider, config.oidc_tenant_claim, config.oidc_roles_claim)


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _allowance(config: Settings, secret: bytes) -> Allowance:
    return Allowance(_text(config.valkey_url), secret, config.try_it_tokens_per_day, config.try_it_requests_per_visitor)


def _desk(config: Settings, callers: Callers, sessions: WebSessions, people: People | None) -> Desk:
    flow = None
    if people is not None and config.oidc_client_id is not None:
        secret, audience = _text(config.oidc_client_secret), config.oidc_audience
        flow = CodeFlow(people, config.oidc_client_id, secret, config.oidc_scopes, audience, config.gateway_url)
    takes_links = config.signin_links or config.env != "production"
    return Desk(callers, sessions, Cookies(config.gateway_url), flow, takes_links=takes_links)


def _listener(application: object, host: str, port: int) -> _Listener:
    return _Listener(
        uvicorn.Config(
            application,  # type: ignore[arg-type]  # uvicorn's own names for ASGI's types
            host=host,
            port=port,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            log_config=None,  # as everything else in this process
            server_header=False,
            proxy_headers=False,  # who looks at the client's address knows how many proxies there are
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(GRACE.total_seconds()),
        )
    )


def main() -> None:
    """The process."""
    config = settings()
    logs.configure(config.log_format, config.log_level, whole_process=True)
    try:
        uvloop.run(run(config))
    except SettingMissing as error:
        raise SystemExit(error.message) from error

"""The public listener: token endpoints first, everything else in one FastAPI application behind them.

What every answer has in common happens here once: request id, CORS, and OpenAI's envelope for each error.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg.errors import QueryCanceled
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, OperationalError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from serving import admin, cors, envelope, openapi
from serving.comparisons.endpoint import ChatEndpoint
from serving.console import Console
from serving.gateway import Gateway
from serving.idempotency.application import Idempotent, carries_key
from serving.idempotency.store import Store
from serving.messages.endpoint import CountTokensEndpoint, MessagesEndpoint, take_key
from serving.messages.wire import COUNT_TOKENS, MESSAGES
from serving.responses.endpoint import InputTokensEndpoint, ResponsesEndpoint
from serving.responses.request import INPUT_TOKENS, RESPONSES
from serving.responses.store import ResponseStore
from serving.routes import (
    account,
    auth,
    batches,
    budgets,
    cache,
    catalog,
    comparisons,
    files,
    fine_tuning,
    gpu_hours,
    idempotency,
    invoice_documents,
    invoices,
    isolation,
    keys,
    limits,
    models,
    organization,
    pages,
    payment_webhooks,
    quotes,
    receipt_sums,
    receipts,
    responses,
    slo,
    storage,
    try_it,
    uploads,
    usage,
    webhooks,
)
from serving.sign_in.cookies import Cookies
from serving.tokens.absent import ABSENT, AbsentEndpoint
from serving.tokens.client import Message, Receive, Scope, Send
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.request import request_id
from serving.tokens.tokenizer import DETOKENIZE, TOKENIZE, Detokenizer, Tokenizer
from serving.tokens.wire import CHAT, ENDPOINTS
from serving.try_it import endpoint as asking
from studio import VERSION, ids
from studio.errors import InvalidRequest, PayloadTooLarge, PermissionDenied, ServiceUnavailable, StudioError
from studio.settings import settings

TENANT_ROUTES = (
    *(auth, catalog, try_it, models, files, uploads, batches, quotes, fine_tuning, responses),
    *(account, invoices, invoice_documents, payment_webhooks, webhooks),
    *(usage, storage, gpu_hours, organization, receipts, receipt_sums, slo, limits, budgets),
    *(idempotency, cache, keys, isolation, pages, comparisons),
)

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger()


class PublicApplication:
    """Sends each request where it belongs."""

    def __init__(
        self,
        token_endpoints: Mapping[str, Application],
        console: Console,
        cookies: Cookies,
        others: Application,
        idempotent: Idempotent,
    ) -> None:
        self._token_endpoints = token_endpoints
        self._console = console
        self._cookies = cookies
        self._others = others
        self._idempotent = idempotent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        if scope["method"] == "HEAD" and scope["path"] not in self._token_endpoints:
            scope = {**scope, "method": "GET"}  # the server, which knows better, leaves the body out
        scope["studio.request_id"] = ids.uuid7()
        application = self._route(scope)
        is_cross_origin = any(name == b"origin" for name, _ in scope["headers"])
        common = cors.RESPONSE_HEADERS if is_cross_origin else []

        async def send_with_common_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                taken = (b"openai-processing-ms", b"%d" % ((time.perf_counter() - began) * 1000))
                name = request_id(scope["studio.request_id"]).encode()  # another one if it takes over a dead gateway's
                named = [(b"x-request-id", name)]
                if scope["path"].startswith(MESSAGES.path):
                    named.append((b"request-id", name))  # where Anthropic's SDK looks for it
                message["headers"] = [*message["headers"], *named, *common, taken]
            await send(message)

        if carries_key(scope):
            await self._idempotent.run(application, scope, receive, send_with_common_headers)
        else:
            await application(scope, receive, send_with_common_headers)

    def _route(self, scope: Scope) -> Application:
        if scope["method"] == "OPTIONS" and cors.is_preflight(scope["headers"]):
            return cors.preflight
        path: str = scope["path"]
        if "//" in path or (path.endswith("/") and path != "/"):
            # A base URL that ends in a slash is the commonest mistake of all clients; a redirect would lose the body.
            path = "/" + "/".join(filter(None, path.split("/")))
            scope["path"] = path
            scope["raw_path"] = path.encode()
        if path.startswith(MESSAGES.path) or path not in self._token_endpoints:
            take_key(scope)  # Anthropic's SDK lists models, too
        if path not in self._token_endpoints and self._console.answers(scope):
            return self._console
        try:
            self._cookies.take_session(scope)
        except PermissionDenied as refused:
            return _refusal(refused)
        return self._token_endpoints.get(path, self._others)


def public_application(gateway: Gateway, database: Engine, answers: Store) -> PublicApplication:
    """Everything that a user can reach."""
    store = ResponseStore(database, gateway.max_body_bytes)
    token_endpoints: dict[str, Application] = {
        **{endpoint.path: TokenEndpoint(endpoint, gateway) for endpoint in ENDPOINTS},
        **{endpoint.path: AbsentEndpoint(endpoint, gateway) for endpoint in ABSENT},
        CHAT.path: ChatEndpoint(gateway, database),
        RESPONSES.path: ResponsesEndpoint(gateway, store),
        INPUT_TOKENS.path: InputTokensEndpoint(gateway, store),
        MESSAGES.path: MessagesEndpoint(gateway),
        COUNT_TOKENS.path: CountTokensEndpoint(gateway),
    }
    for endpoint, of_tokenizer in ((TOKENIZE, Tokenizer), (DETOKENIZE, Detokenizer)):
        # Engines have them at the root, so that is where their clients look.
        token_endpoints[endpoint.path] = token_endpoints[endpoint.engine_path] = of_tokenizer(endpoint, gateway)
    cookies = gateway.desk.cookies
    chat = TokenEndpoint(CHAT, gateway)
    token_endpoints[asking.PATH] = asking.TryItEndpoint(gateway, chat, cookies, settings().try_it_proxies)
    framework = described_application(gateway.max_body_bytes)
    framework.state.gateway = gateway
    framework.state.database = database
    framework.state.responses = store
    framework.state.idempotency = answers
    others = _bounded(framework, gateway.max_body_bytes)
    return PublicApplication(token_endpoints, Console.built(), cookies, others, Idempotent(gateway, answers))


def described_application(max_body_bytes: int) -> FastAPI:
    """All routes and refusals, without the parts that answer: enough for the OpenAPI document."""
    # Its own pages for the document load scripts from elsewhere, which this page's policy forbids.
    app = FastAPI(
        title="XPULINK AI Studio",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # A body is read before its caller is known. Routes that stream files have a bound of their own.
        max_body_size=max_body_bytes,
    )
    for part in (*TENANT_ROUTES, admin):
        app.include_router(part.router)
    app.add_exception_handler(StudioError, _studio_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(UnicodeEncodeError, _unstorable)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(Exception, _unforeseen)
    openapi.complete(app)
    return app


def _bounded(application: Application, most_bytes: int) -> Application:
    """Refuses a body that says it is too large in our own envelope; the framework would do so in plain text."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > most_bytes and not _streams_a_file(scope["path"]):
            too_large = PayloadTooLarge(
                f"The request body is larger than the limit of {most_bytes} bytes. Send less at once; large files go to"
                " `/v1/uploads`."
            )
            await _refusal(too_large)(scope, receive, send)
        else:
            await application(scope, receive, send)

    return bounded


def _streams_a_file(path: str) -> bool:
    """Routes that bound what they take as it arrives."""
    return path == "/v1/files" or (path.startswith("/v1/uploads/") and path.endswith("/parts"))


def _refusal(error: StudioError) -> Response:
    headers = {name.decode(): value.decode() for name, value in envelope.headers_of(error)}
    return Response(envelope.body_of(error), error.status, headers)


async def _studio_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, StudioError)
    return _refusal(error)


async def _invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return _refusal(InvalidRequest(f"{first['msg']} in `{field}`." if field else first["msg"], param=field or None))


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return _refusal(PayloadTooLarge("The request body is too large. Send less at once."))
    allowed = " or ".join(Headers(error.headers or {}).get("allow", "another method").split(", "))
    message = {
        404: f"There is nothing at {request.url.path}. `/docs` lists the paths that there are.",
        405: f"{request.method} is not allowed for {request.url.path}; use {allowed}.",
    }.get(error.status_code, f"{error.detail}. `/docs` says what this path takes.")
    body = envelope.for_status(error.status_code, message)
    return Response(body, error.status_code, error.headers, "application/json")


async def _unstorable(request: Request, error: Exception) -> Response:
    """JSON can write texts that are no Unicode (NUL, half of a surrogate pair) and numbers that no column holds."""
    log.warning("input_unstorable", path=request.url.path, kind=type(error).__name__)
    return _refusal(InvalidRequest("A value holds a character or a number that cannot be stored. Leave it out."))


async def _database_away(request: Request, error: Exception) -> Response:
    """Or too slow: the server gives a statement up after `STATEMENT_SECONDS`."""
    assert isinstance(error, OperationalError)
    log.error("database_failed", path=request.url.path, exc_info=error)
    what = "took too long over this" if isinstance(error.orig, QueryCanceled) else "does not answer at the moment"
    return _refusal(ServiceUnavailable(f"The database {what}.", retry_after=timedelta(seconds=5)))


async def _unforeseen(_: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return _refusal(
        StudioError(
            "The gateway failed. Try again; if it fails again, tell your operator the `x-request-id` of this answer."
        )
    )

"""Asks an engine for an answer, another if that one is gone. What is asked is `tokens/engine_request.py`.

Nothing of an answer has reached the caller when `ask` returns, so until then a request may move to another replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from uuid import UUID

import structlog

from serving import routing
from serving.balance import Balancer, Full, Place, Work
from serving.engine_aborts import is_aborted, only_opens
from serving.engine_connections import BrokenOff, Connections, NotReached, Response
from serving.fleet.view import Fleet, Replica
from serving.routing import Target
from studio import clock
from studio.errors import ServiceUnavailable

STREAM_SILENCE = timedelta(seconds=120)  # between two reads of a stream
WHOLE_ANSWER = timedelta(seconds=600)  # OpenAI's SDKs wait as long
# How long a stream's opening is held back for what comes with it. vLLM sends it with the first token, and then says
# nothing while it reads a call of a tool.
ALONE = timedelta(seconds=1)
RETRY = timedelta(seconds=2)  # what a caller is told when all replicas failed
PROBE = timedelta(seconds=3)  # for /health, which answers within milliseconds also under load
DRAIN = timedelta(seconds=3)  # for what an engine has produced when its client has left

UNKNOWN_WORK = Work()
_NOT_LET_IN = (401, 403)  # by an attached engine whose key has changed: nothing that a caller can do
_NOT_TAKEN = (*_NOT_LET_IN, 429, 503)  # and so not begun: another replica may take it
_SHUTTING_DOWN = b"cannot schedule new futures after shutdown"

log = structlog.get_logger()


class ReplicaGone(Exception):
    """The replica cannot be reached, or went away before it answered."""


class NotTaken(ReplicaGone):
    """It answers, and does not take the request."""


class ReplicaDied(ReplicaGone):
    """It had the request when it went away: perhaps because of it."""


class AnswerLost(ServiceUnavailable):
    """The engine may have worked on the request, but its counts are lost with its answer: nobody pays for them."""


@dataclass(slots=True)
class Answer:
    """An engine's answer whose first part has arrived: a stream up to its first token, or all of what is no stream."""

    replica: Replica
    status: int
    first: bytes
    _response: Response
    _place: Place
    _engines: Engines
    _drain: asyncio.TimerHandle | None = field(default=None)

    async def more(self, take: Callable[[bytes], bool] | None = None) -> bytes:
        """The next bytes of a stream that `take` does not take, empty at its end. ReplicaGone when it breaks off."""
        try:
            return await self._response.more(take)
        except (BrokenOff, TimeoutError) as error:
            if self._drain is None:  # at our own end of the connection an engine may break off, too
                self._engines.note_unreachable(self.replica)
            raise ReplicaGone(str(error)) from error

    def half_close(self) -> None:
        """Tell the engine that nobody listens, and go on reading what it has produced.

        Measured on vLLM 0.32: at our end-of-file it stops generating but still flushes what it has written, so the
        usage that arrives last is exactly what its own counters say. Closing at once would lose that.
        """
        if self._response.is_complete:
            return
        # Without halves (TLS) the engine hears of it by the end of the whole connection.
        patience = DRAIN.total_seconds() if self._response.half_close() else 0
        self._drain = asyncio.get_running_loop().call_later(patience, self._response.close)

    def close(self) -> None:
        """Give the connection back, or close it when the answer was not read to its end."""
        if self._drain is not None:
            self._drain.cancel()
        self._response.close()
        self._place.leave(time.monotonic(), answered=self.status < 500)


class Engines:
    """All connections of this process."""

    def __init__(self) -> None:
        self._connections = Connections()
        self.balancer = Balancer()

    async def ask(
        self,
        fleet: Fleet,
        target: Target,
        path: str,
        body_for: Callable[[Replica], bytes],
        work: Work = UNKNOWN_WORK,
        *,
        stream: bool,
    ) -> Answer:
        """The answer of the best replica that gives one; which is best is `balance.py`'s to say.

        ModelAsleep or ServiceUnavailable when none is ready, ServiceUnavailable when all that are fail or are full.
        """
        tried: set[UUID] = set()
        alive = False  # one has answered, though it takes nothing now
        deaths = 0
        while True:
            try:
                replica = self.balancer.choose(fleet, target, work, tried, time.monotonic())
            except Full as full:
                raise routing.overloaded(target, timedelta(seconds=full.seconds)) from full
            if replica is None and alive:
                raise routing.unanswered(target)
            if replica is None:
                silent = self.balancer.health.ejected() | tried
                raise routing.unavailable(fleet, target, clock.now(), silent)
            body = body_for(replica)
            place = self.balancer.take(fleet, target, replica, work, len(body), time.monotonic())
            try:
                return await self._ask(place, path, body, stream)
            except ReplicaGone as error:
                log.warning("replica_gone", replica=str(replica.id), variant=target.variant.id, error=str(error))
                tried.add(replica.id)
                alive = alive or isinstance(error, NotTaken)
                deaths += isinstance(error, ReplicaDied)
                if deaths > 1:  # a request that kills engines must not be tried on all of them
                    raise ServiceUnavailable(
                        f"Two replicas of `{target.name}` went away with this request.", retry_after=RETRY
                    ) from error

    async def probe(self, replica: Replica) -> None:
        """Ask a replica whether it lives. Any answer will do that is not an error of its own: not every engine that is
        attached knows this path."""
        try:
            async with asyncio.timeout(PROBE.total_seconds()):
                response = await self._connections.ask("GET", replica.url, "/health", b"", replica.authorization, PROBE)
                lives = response.status < 500 or response.status == HTTPStatus.NOT_IMPLEMENTED
                await _whole(response)
        except (NotReached, BrokenOff, TimeoutError):
            lives = False
        if not lives:
            self.note_unreachable(replica)
        elif self.balancer.probed(replica, time.monotonic()):
            _log_back(replica)

    def note_unreachable(self, replica: Replica) -> None:
        """It could not be reached, or went away in the middle of an answer."""
        if self.balancer.health.unreachable(replica.id, time.monotonic()):
            log.warning("replica_ejected", replica=str(replica.id), variant=replica.variant_id, why="unreachable")

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def _ask(self, place: Place, path: str, body: bytes, stream: bool) -> Answer:
        replica = place.replica
        try:
            response, first = await self._post(replica, path, body, stream)
        except BaseException as error:
            place.leave(time.monotonic(), answered=False)
            if isinstance(error, ReplicaGone | AnswerLost):
                self.note_unreachable(replica)
            else:
                self.balancer.health.left_open(replica.id)
            raise
        status: int = HTTPStatus.SERVICE_UNAVAILABLE if is_aborted(first) else response.status
        self._note_status(replica, status)
        if status in _NOT_TAKEN or (status == 500 and _SHUTTING_DOWN in first):
            response.close()
            place.leave(time.monotonic(), answered=False)
            raise NotTaken(f"status {status}")
        return Answer(replica, status, first, response, place, self)

    def _note_status(self, replica: Replica, status: int) -> None:
        now = time.monotonic()
        if status < 500 and status not in _NOT_LET_IN:
            if self.balancer.answered(replica, now):
                _log_back(replica)
        elif self.balancer.health.failed(replica.id, now):
            log.warning("replica_ejected", replica=str(replica.id), variant=replica.variant_id, why=f"status {status}")

    async def _post(self, replica: Replica, path: str, body: bytes, stream: bool) -> tuple[Response, bytes]:
        silence = STREAM_SILENCE if stream else WHOLE_ANSWER
        for is_last_try in (False, True):
            try:
                response = await self._connections.ask(
                    "POST", replica.url, path, body, replica.authorization, silence, anew=is_last_try
                )
                return response, await _first_part(response, stream)
            except NotReached as error:
                raise ReplicaGone(str(error)) from error
            except TimeoutError as error:
                raise AnswerLost("The engine did not answer in time.", retry_after=RETRY) from error
            except BrokenOff as error:
                # Perhaps only a kept connection that the engine had just closed: once more, on a new one.
                if is_last_try:
                    raise ReplicaDied(str(error)) from error
        raise AssertionError("the last try returns or raises")


def _log_back(replica: Replica) -> None:
    log.info("replica_back", replica=str(replica.id), variant=replica.variant_id)


async def _first_part(response: Response, stream: bool) -> bytes:
    """A stream up to its first token, or all of what is none."""
    if not stream or response.status != 200:
        return await _whole(response)
    try:
        first = part = await response.more()
        if only_opens(first):  # until it has begun, the request may still move to another replica
            with suppress(TimeoutError):
                async with asyncio.timeout(ALONE.total_seconds()):
                    while part and only_opens(first):
                        part = await response.more()
                        first += part
    except BaseException:
        response.close()
        raise
    if not part:
        raise ReplicaGone("a stream without a token")
    return first


async def _whole(response: Response) -> bytes:
    try:
        return await response.read()
    except BaseException:
        response.close()
        raise

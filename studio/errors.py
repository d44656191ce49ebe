"""Errors that a caller can do something about. Each says what to do next and carries its facts.

    StudioError                     status  code
      InvalidRequest                400     invalid_request (or a more exact code)
        ContextLengthExceeded       400     context_length_exceeded
      InvalidApiKey                 401     invalid_api_key
        InvalidToken                401     invalid_token
      PermissionDenied              403     permission_denied
      NotFound                      404     not_found
        ModelNotFound               404     model_not_found
      MethodNotAllowed              405     method_not_allowed
      Conflict                      409     conflict
      PayloadTooLarge               413     payload_too_large
      UnsupportedMediaType          415     unsupported_media_type
      RateLimited                   429     rate_limit_exceeded
      InsufficientQuota             429     insufficient_quota
      ServiceUnavailable            503     server_is_overloaded
        ModelAsleep                 503     model_asleep

The edges (gateway, command line) translate them, nobody else. Whatever the user must know stands in the message:
current OpenAI SDKs show nothing else.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

# Above 120 s the Python SDK gives up instead of waiting (openai-python#3555): a longer ETA stands in the message only.
MAX_RETRY_AFTER = timedelta(seconds=120)


class StudioError(Exception):
    """Base of all errors that are the caller's business. `type` is OpenAI's word for the class of error."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after: timedelta | None = None


class InvalidRequest(StudioError):
    """The request cannot be right, whoever sends it."""

    status, type, default_code = 400, "invalid_request_error", "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and answer do not fit. Code and words are both what clients look for."""

    default_code = "context_length_exceeded"


class InvalidApiKey(StudioError):
    """No key, a mistyped, unknown, expired or revoked key."""

    status, type, default_code = 401, "invalid_request_error", "invalid_api_key"


class InvalidToken(InvalidApiKey):
    """A token of a sign-in that is forged, expired, or for somebody else."""

    default_code = "invalid_token"


class PermissionDenied(StudioError):
    """A valid key without the scope that the call needs, or somebody signed in without the role."""

    status, type, default_code = 403, "invalid_request_error", "permission_denied"


class NotFound(StudioError):
    """There is no such thing, or it belongs to another tenant: nobody can tell which. `way_out` "": the message has
    its own."""

    status, type, default_code = 404, "invalid_request_error", "not_found"

    def __init__(
        self,
        message: str,
        *,
        way_out: str = "Look for the right one in the list of what you have.",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(f"{message.removesuffix('.')}. {way_out}".rstrip(), code=code, param=param)


class ModelNotFound(NotFound):
    """The catalog has no such model."""

    default_code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model `{model}` does not exist or you do not have access to it.",
            way_out="`GET /v1/models` lists those that you may use.",
            param="model",
        )


class MethodNotAllowed(StudioError):
    """The path exists, but not for this method."""

    status, type, default_code = 405, "invalid_request_error", "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not allowed for {path}; use {' or '.join(allowed)}.")
        self.allowed = allowed


class Conflict(StudioError):
    """The thing exists, or is in a state that does not allow this."""

    status, type, default_code = 409, "invalid_request_error", "conflict"


class PayloadTooLarge(StudioError):
    """A body over the limit; nothing of it was read further."""

    status, type, default_code = 413, "invalid_request_error", "payload_too_large"


class UnsupportedMediaType(StudioError):
    """A body in a form that is not read here."""

    status, type, default_code = 415, "invalid_request_error", "unsupported_media_type"


class RateLimited(StudioError):
    """Over the caller's own limit. `retry_after` None: this request never fits, however long one waits."""

    status, type, default_code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(self, limit: str, retry_after: timedelta | None) -> None:
        what_next = "Please ask for less." if retry_after is None else f"Please retry in {_seconds(retry_after)} s."
        super().__init__(f"Rate limit reached: {limit}. {what_next}")
        self.retry_after = None if retry_after is None else min(retry_after, MAX_RETRY_AFTER)


class InsufficientQuota(StudioError):
    """The caller's money is spent. Retrying does not help, adding credit does."""

    status, type, default_code = 429, "insufficient_quota", "insufficient_quota"


class ServiceUnavailable(StudioError):
    """We are short; the request was not started and costs nothing."""

    status, type, default_code = 503, "service_unavailable_error", "server_is_overloaded"

    def __init__(
        self, message: str, *, retry_after: timedelta, way_out: str | None = None, code: str | None = None
    ) -> None:
        wait = min(retry_after, MAX_RETRY_AFTER)
        super().__init__(f"{message} {way_out or f'Try again in {_seconds(wait)} s.'}", code=code)
        self.retry_after = wait


class ModelAsleep(ServiceUnavailable):
    """The model is in the catalog but no replica can answer now. `ready_at` is None when nothing is on its way.

    `ready_at` and `now` belong to one clock; the message shows `ready_at` in the zone that it comes with.
    """

    default_code = "model_asleep"

    def __init__(self, model: str, ready_at: datetime | None, now: datetime, why: str) -> None:
        self.ready_at = ready_at
        self.ready_in = None if ready_at is None else max(ready_at - now, timedelta(seconds=1))
        if self.ready_in is None:
            super().__init__(
                f"The model `{model}` has no running replica: {why}.",
                retry_after=MAX_RETRY_AFTER,
                way_out="Use another model: `GET /v1/models` shows which are warm.",
            )
        else:
            super().__init__(
                f"The model `{model}` is asleep: {why}.",
                retry_after=self.ready_in,
                way_out=f"It should answer in about {self.ready_in.total_seconds():.0f} s"
                f" (at {ready_at:%Y-%m-%d %H:%M:%S %Z}).",
            )


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.3f}".rstrip("0").rstrip(".")

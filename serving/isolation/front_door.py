"""The gateway as a tenant reaches it: HTTP with a key."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import httpx

from studio.errors import ServiceUnavailable

NEWS = timedelta(seconds=40)  # gateways hear of what is new within milliseconds, and look for it every 30 s
ANSWER = timedelta(seconds=120)
_LOOK_SECONDS = 0.1


class FrontDoor:
    """One tenant's. Open inside the `with` block."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=ANSWER.total_seconds())

    def __enter__(self) -> Self:
        """ServiceUnavailable when the gateway does not come to know the key."""
        try:
            self.wait_for("/v1/models")
        except BaseException:
            self._http.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def wait_for(self, path: str) -> None:
        """Until the gateway has heard of what is new. ServiceUnavailable when it does not."""
        deadline = time.monotonic() + NEWS.total_seconds()
        while (status := self.status("GET", path)) != 200:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"The gateway answers {path} with {status}: nothing can be probed.", retry_after=NEWS
                )
            time.sleep(_LOOK_SECONDS)

    def status(self, method: str, path: str) -> int:
        """How a request is answered."""
        return self._http.request(method, path).status_code

    def read(self, path: str) -> Any:
        """What is told of a list or a thing of one's own; an error is raised."""
        return self._http.get(path).raise_for_status().json()

    def send(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A POST, whatever comes of it."""
        return self._http.post(path, json=body)

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """What a model answers; None if it does not, or not in time."""
        try:
            answer = self.send(path, body)
        except httpx.TimeoutException:
            return None
        return answer.json() if answer.status_code == 200 else None

    def upload(self, name: str, content: bytes) -> str:
        """A file for batches; its id."""
        answer = self._http.post("/v1/files", data={"purpose": "batch"}, files={"file": (name, content)})
        id: str = answer.raise_for_status().json()["id"]
        return id

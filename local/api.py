"""The gateway's API as the command line uses it: address and key from the environment, or from the stack here.

`STUDIO_GATEWAY_URL` and `STUDIO_API_KEY` point it at any cluster. Without them it speaks to the stack of this folder
with the administrator's key that `studio up` left there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from local.paths import StatePaths
from local.ports import Ports
from local.stack import Stack
from local.stack_process import observe
from studio.errors import StudioError


class ApiRefused(StudioError):
    """The gateway said no; its sentence is ours."""


class GatewayAway(StudioError):
    """Nothing answers at the gateway's address."""


class Api:
    """One gateway with one key. Every call raises ApiRefused or GatewayAway with a sentence for the user."""

    def __init__(self, gateway_url: str, key: str) -> None:
        self.gateway_url = gateway_url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.gateway_url,
            headers={"authorization": f"Bearer {key}"},
            timeout=60.0,
            trust_env=False,
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, key: str | None = None) -> Api:
        """The gateway and key of the environment, else of the stack here; a `key` given goes before both."""
        paths = StatePaths.from_environment(environ)
        url = environ.get("STUDIO_GATEWAY_URL")
        if url is None:
            state = observe(paths)
            if state is None:
                raise GatewayAway("No stack was started here: run `studio up`, or set STUDIO_GATEWAY_URL.")
            url = Stack.from_environment(Ports(state.port_offset), environ).gateway_url
        key = key or environ.get("STUDIO_API_KEY") or _kept_key(paths.admin_key)
        if key is None:
            raise ApiRefused("No key: set STUDIO_API_KEY to a key with the scope `admin`.")
        return cls(url, key)

    def get(self, path: str, **params: str) -> Any:
        """GET; the answer's JSON."""
        return self._call("GET", path, params=params).json()

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST; the answer's JSON."""
        return self._call("POST", path, json=body or {}).json()

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """PUT; the answer's JSON."""
        return self._call("PUT", path, json=body).json()

    def delete(self, path: str) -> None:
        """DELETE."""
        self._call("DELETE", path)

    def download(self, path: str) -> bytes:
        """GET; the answer's bytes."""
        return self._call("GET", path).content

    def upload(self, path: Path, purpose: str) -> str:
        """Upload a file, read as it is sent; its id."""
        with path.open("rb") as source:
            answer = self._call("POST", "/v1/files", files={"file": (path.name, source)}, data={"purpose": purpose})
        id: str = answer.json()["id"]
        return id

    def close(self) -> None:
        """Give the connections back; a program that ends anyway need not."""
        self._client.close()

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise GatewayAway(f"The gateway at {self.gateway_url} does not answer ({error}).") from error
        if answer.is_error:
            raise refusal(answer)
        return answer


def refusal(answer: httpx.Response) -> ApiRefused:
    """The error envelope's sentence and code; or what little there is."""
    try:
        error = answer.json()["error"]
        return ApiRefused(error["message"], code=error["code"])
    except (ValueError, KeyError, TypeError):
        return ApiRefused(f"The gateway answered {answer.status_code}: {answer.text[:200]}")


def _kept_key(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None

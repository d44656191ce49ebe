"""The installation that is looked at: its cluster through kubectl, its gateway through HTTPS."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

Document = dict[str, Any]


class NotAsItShouldBe(Exception):
    """The check's finding, in a sentence that says what to do."""


class NotLookedAt(Exception):
    """Something that the check needs was not given."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check."""

    day: str
    name: str
    outcome: Literal["passed", "FAILED", "not looked at"]
    said: str


@dataclass(frozen=True)
class Site:
    """Where things are."""

    kubectl: str = field(default_factory=lambda: shutil.which("kubectl") or "kubectl")
    platform: str = "studio"
    engines: str = "engines"
    training: str = "training"
    gpu_resource: str = "metax-tech.com/gpu"
    gateway_url: str | None = None
    api_key: str | None = None
    limited_key: str | None = None  # of a tenant with a small limit
    patience_seconds: float = 30.0  # for a journal that ships every few seconds
    probe_image: str | None = None  # ours of the gateway, by digest

    def run(self, *arguments: str, text: str | None = None) -> str:
        """kubectl to its end. NotAsItShouldBe with its words."""
        try:
            answer = subprocess.run(
                [self.kubectl, "--request-timeout=20s", *arguments],
                input=text,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise NotLookedAt(f"kubectl does not run: {error}") from error
        if answer.returncode != 0:
            raise NotAsItShouldBe(answer.stderr.strip().splitlines()[-1] if answer.stderr else "kubectl failed")
        return answer.stdout

    def objects(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Document]:
        """All of a kind, in one namespace or in all."""
        where = ("--namespace", namespace) if namespace else ("--all-namespaces",)
        labels = ("--selector", selector) if selector else ()
        found: list[Document] = json.loads(self.run("get", kind, *where, *labels, "--output", "json"))["items"]
        return found

    def knows(self, kind: str) -> bool:
        """Whether the cluster has a kind of somebody else's: `scaledobjects.keda.sh`."""
        return bool(self.run("get", "crd", kind, "--ignore-not-found", "--output", "name").strip())

    def ask(
        self, method: str, path: str, key: str | None = None, body: Any = None, tag: str | None = None
    ) -> httpx.Response:
        """The gateway."""
        if not self.gateway_url or not self.api_key:
            raise NotLookedAt("give STUDIO_GATEWAY_URL and STUDIO_API_KEY")
        headers = {"authorization": f"Bearer {key or self.api_key}"} | ({"x-studio-tag": tag} if tag else {})
        try:
            return httpx.request(
                method, f"{self.gateway_url.rstrip('/')}{path}", headers=headers, json=body, timeout=120
            )
        except httpx.HTTPError as error:
            raise NotAsItShouldBe(f"{self.gateway_url} does not answer: {error or type(error).__name__}") from error


Check = Callable[[Site], str]  # what it saw; NotAsItShouldBe and NotLookedAt otherwise


def verdict(day: str, check: Check, site: Site) -> Verdict:
    """Carry one out. Its name is its function's."""
    name = check.__name__.replace("_", " ")
    try:
        return Verdict(day, name, "passed", check(site))
    except NotLookedAt as why:
        return Verdict(day, name, "not looked at", str(why))
    except NotAsItShouldBe as why:
        return Verdict(day, name, "FAILED", str(why))

"""A real API server with its etcd, from the binaries that `KUBEBUILDER_ASSETS` names; with controllers and a scheduler
where those lie beside them. Or a cluster that is there already, by `KUBECONFIG` and `STUDIO_CLUSTER_TESTS=kubeconfig`,
for tests that keep to namespaces of their own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.k8s.rendering import TOOLS
from tests.local.eventually import eventually
from tests.server import free_port

ASSETS = "KUBEBUILDER_ASSETS"
WANTED, GIVEN = "STUDIO_CLUSTER_TESTS", "kubeconfig"
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
START_SECONDS = 90.0


def assets() -> Path:
    """The folder with the binaries. Without one: a failure where `STUDIO_CLUSTER_TESTS=required`, a skip elsewhere."""
    if os.environ.get(WANTED) == GIVEN:
        pytest.skip(
            f"NOT RUN: it needs a control plane of its own, and {WANTED}={GIVEN} names a cluster that is in use"
        )
    named = os.environ.get(ASSETS)
    if named and (Path(named) / "kube-apiserver").is_file():
        return Path(named)
    said = f"NOT RUN: {ASSETS} names no folder with etcd and kube-apiserver (docs/kubernetes.md says where from)"
    if os.environ.get(WANTED) == "required":
        pytest.fail(said)
    pytest.skip(said)


def controllers() -> Path:
    """The same folder, if it holds controller-manager and scheduler, too. Many folders of assets do not."""
    found = assets()
    if not all((found / name).is_file() for name in CONTROLLERS):
        pytest.skip(f"NOT RUN: {ASSETS} names a folder without {' and '.join(CONTROLLERS)}")
    return found


class ControlPlane:
    """An API server that answers, and helm and kubectl against it."""

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self._url, self._token = url, token
        self.kubeconfig = folder / "kubeconfig"  # of an administrator
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(folder),  # helm's and kubectl's caches
            "NO_PROXY": "127.0.0.1",
        }
        cluster = {"server": url, "insecure-skip-tls-verify": True}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def is_ready(self) -> bool:
        """Whether it answers that it is."""
        try:
            return self._get("/readyz") == b"ok"
        except OSError:
            return False

    def knows(self, group_version: str) -> bool:
        """Whether it serves a group of kinds: old servers lack some."""
        try:
            self._get(f"/apis/{group_version}")
        except urllib.error.HTTPError:
            return False
        return True

    def run(self, tool: str, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """helm, helm3 or kubectl, to its end."""
        command = [str(TOOLS / tool), *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=self._environment)

    def succeed(self, tool: str, *arguments: str, text: str | None = None) -> str:
        """The same, which must succeed."""
        answer = self.run(tool, *arguments, text=text)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def object(self, kind: str, name: str, namespace: str) -> Any:
        """An object as it is stored."""
        return json.loads(self.succeed("kubectl", "get", kind, name, "--namespace", namespace, "--output", "json"))

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One request, for those who ask often: kubectl takes 0.1 s. HTTPError says why not."""
        return json.loads(self._asked(method, path, None if body is None else json.dumps(body).encode(), kind))

    def with_namespaces(self, *names: str) -> ControlPlane:
        """It, with namespaces of these names: other tests of the process may have made some."""
        for name in names:
            if not self.has(f"/api/v1/namespaces/{name}"):
                self.succeed("kubectl", "create", "namespace", name)
        return self

    def has(self, path: str) -> bool:
        """Whether there is such an object."""
        try:
            self._get(path)
        except urllib.error.HTTPError:
            return False
        return True

    def forward(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        """What it answers to somebody else's request: the status, the kind and the bytes."""
        try:
            return 200, "application/json", self._asked(method, path, body, "application/json")
        except urllib.error.HTTPError as error:
            return error.code, error.headers["content-type"], error.read()

    def _get(self, path: str) -> bytes:
        return self._asked("GET", path, None, "application/json")

    def _asked(self, method: str, path: str, body: bytes | None, kind: str) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        request = urllib.request.Request(self._url + path, body, headers, method=method)  # noqa: S310  # https to our own server
        context = ssl._create_unverified_context()  # noqa: S323  # our own server on loopback, with a fresh certificate
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(request, timeout=10) as answer:
            content: bytes = answer.read()
        return content


class GivenCluster(ControlPlane):
    """One that is there already, for tests that keep to a namespace of their own: kubectl and a kubeconfig, no more."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    @classmethod
    def named(cls) -> GivenCluster | None:
        """That of KUBECONFIG, where `STUDIO_CLUSTER_TESTS=kubeconfig` says that it may be used for tests."""
        if os.environ.get(WANTED) != GIVEN:
            return None
        named = os.environ.get("KUBECONFIG")
        assert named, f"{WANTED}={GIVEN} needs KUBECONFIG"
        return cls(Path(named))

    def _asked(self, method: str, path: str, body: bytes | None, kind: str) -> bytes:
        assert method == "GET", "a given cluster is written to by kubectl only"
        return self.succeed("kubectl", "get", "--raw", path).encode()


@contextmanager
def running(binaries: Path, folder: Path, features: tuple[str, ...] = ()) -> Iterator[ControlPlane]:
    """A control plane for the length of the block. `features`: gates that were closed in 1.20 and are open since."""
    token = secrets.token_urlsafe(18)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (folder / "accounts.key").write_bytes(key.private_bytes(*pem))
    store, peer, port = free_port(), free_port(), free_port()
    store_url, peer_url = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peer}"
    etcd = [
        *(str(binaries / "etcd"), f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
        *(f"--listen-client-urls={store_url}", f"--advertise-client-urls={store_url}"),
        *(f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}"),
        f"--initial-cluster=default={peer_url}",
    ]
    server = [
        *(str(binaries / "kube-apiserver"), f"--etcd-servers={store_url}"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder / 'certificates'}"),
        *(f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC"),
        *("--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc"),
        *(f"--service-account-key-file={folder / 'accounts.key'}",),
        *(f"--service-account-signing-key-file={folder / 'accounts.key'}", "--api-audiences=api"),
        "--allow-privileged",  # as kubeadm has it
        "--disable-admission-plugins=ServiceAccount",  # a controller would make the accounts it asks for
    ]
    if features and _is_old(binaries / "kube-apiserver"):
        server.append(_gates(features))
    with ExitStack() as stack:
        for command in (etcd, server):
            log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait, timeout=20)
            stack.callback(process.terminate)
        plane = ControlPlane(f"https://127.0.0.1:{port}", token, folder)
        eventually(
            plane.is_ready, f"the API server is ready; its log is {folder / 'kube-apiserver.log'}", START_SECONDS
        )
        yield plane
    shutil.rmtree(folder / "etcd", ignore_errors=True)


@contextmanager
def controlled(binaries: Path, plane: ControlPlane, features: tuple[str, ...] = ()) -> Iterator[None]:
    """Its controllers and its scheduler, for the length of the block."""
    folder = plane.kubeconfig.parent
    options = {
        "kube-controller-manager": [f"--cert-dir={folder}", "--controllers=*,-serviceaccount-token"],
        "kube-scheduler": [f"--cert-dir={folder}"],
    }
    with ExitStack() as stack:
        for name, its_own in options.items():
            if _is_old(binaries / name):  # those have an insecure port, open by default
                its_own.extend(["--port=0", *([_gates(features)] if features else [])])
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            command = [str(binaries / name), f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false"]
            process = subprocess.Popen(
                [*command, f"--secure-port={free_port()}", *its_own], stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(process.wait, timeout=20)
            stack.callback(process.terminate)
        yield


def _is_old(binary: Path) -> bool:
    said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split(".")[1]) < 24


def _gates(features: tuple[str, ...]) -> str:
    return f"--feature-gates={','.join(f'{name}=true' for name in features)}"

"""A certified OpenID provider (npm `oidc-provider`) as a process of a test, with keys that the test has made.

Having the keys, a test can also sign what the provider never would: tokens that are old, early or for somebody else.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from studio.settings import REPOSITORY
from tests.server import free_port

AUDIENCE = "urn:xpulink-studio"
CLIENT_ID, CLIENT_SECRET = "console", "a secret: of the console"
HERE = Path(__file__).parent


class SigningKeys:
    """One RSA and one EC key, as a provider has them. Each instance has others."""

    def __init__(self, name: str) -> None:
        self.rsa_id, self.ec_id = f"{name}-rsa", f"{name}-ec"
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())

    def jwks(self) -> dict[str, Any]:
        """Private ones, for the provider itself."""
        of_rsa = RSAAlgorithm.to_jwk(self.rsa, as_dict=True) | {"kid": self.rsa_id, "use": "sig"}
        of_ec = ECAlgorithm.to_jwk(self.ec, as_dict=True) | {"kid": self.ec_id, "use": "sig"}
        for key in (of_rsa, of_ec):
            key.pop("key_ops", None)
        return {"keys": [of_rsa, of_ec]}

    def sign(self, claims: Mapping[str, Any], algorithm: str = "RS256", **header: Any) -> str:
        """A token that is as good as the provider's."""
        key, kid = (self.ec, self.ec_id) if algorithm == "ES256" else (self.rsa, self.rsa_id)
        return jwt.encode(dict(claims), key, algorithm, headers={"kid": kid} | header)


class ProviderProcess:
    """Answers inside the `with` block. `people` are its clients by name: their claims, and `algorithm` perhaps. With a
    `site` people may also sign in to it with a browser."""

    def __init__(
        self,
        folder: Path,
        people: Mapping[str, Mapping[str, Any]],
        keys: SigningKeys,
        site: str | None = None,
    ) -> None:
        self.issuer = f"http://127.0.0.1:{free_port()}"
        self.keys = keys
        self._people = people
        self._site = site
        self._settings = folder / "provider.json"
        self._log = folder / "provider.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it with the keys that `keys` has now."""
        port = int(self.issuer.rpartition(":")[2])
        settings = {"issuer": self.issuer, "port": port, "jwks": self.keys.jwks(), "people": self._people}
        if self._site is not None:
            settings["browser"] = browser_client(self._site)
        self._settings.write_text(json.dumps(settings))
        with self._log.open("ab") as log:
            argv = ["node", str(HERE / "provider.js"), str(installed()), str(self._settings)]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Away. It may be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def rotate(self, keys: SigningKeys) -> None:
        """Restart with new keys; the old ones are gone."""
        self.stop()
        self.keys = keys
        self.start()

    def token(self, person: str, audience: str = AUDIENCE) -> str:
        """What the provider gives to that person."""
        answer = httpx.post(
            f"{self.issuer}/token",
            data={"grant_type": "client_credentials", "resource": audience},
            auth=(person, f"secret%20of%20{person}"),
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def _answers(self) -> bool:
        try:
            url = f"{self.issuer}/.well-known/openid-configuration"
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def browser_client(site: str) -> dict[str, Any]:
    """How a gateway that is reached at `site` is registered for the code flow."""
    return {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "redirect_uris": [f"{site}/auth/callback"],
        "post_logout_redirect_uris": [f"{site}/"],
        "backchannel_logout_uri": f"{site}/auth/backchannel-logout",
        "backchannel_logout_session_required": True,
    }


def installed() -> Path:
    """The folder with the provider's packages; `make` installs them if that has not been done."""
    subprocess.run(["make", "--silent", "build/oidc/.ready"], cwd=REPOSITORY, check=True)
    return REPOSITORY / "build" / "oidc"

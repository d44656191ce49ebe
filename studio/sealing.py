"""What tenants ask us to keep is encrypted at rest: AES-256-GCM, a key of its own for each tenant.

A sealed value is `version | nonce (12 bytes) | ciphertext and tag`. It opens only for the same tenant and in the same
place (`context`, such as the id of its row), so rows cannot be swapped. Deleting a row deletes its content: there is no
other copy and no index of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from functools import cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from studio.settings import SettingMissing, settings

_VERSION = b"\x01"
_NONCE_BYTES = 12


class Unreadable(Exception):
    """Sealed with another key, for another tenant or place, or damaged."""


class Seal:
    """Seals and opens with keys derived from one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = cache(self._cipher_of)
        self._fingerprint_key = cache(lambda tenant_id: self._derive(b"studio fingerprint ", tenant_id))

    def close(self, tenant_id: UUID, context: bytes, plain: bytes) -> bytes:
        """`plain`, sealed for one tenant and place."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher(tenant_id).encrypt(nonce, plain, context)

    def open(self, tenant_id: UUID, context: bytes, sealed: bytes) -> bytes:
        """What was sealed; Unreadable if anything about it is different."""
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION or len(nonce) < _NONCE_BYTES:
            raise Unreadable("not sealed by this version")
        try:
            return self._cipher(tenant_id).decrypt(nonce, ciphertext, context)
        except InvalidTag as error:
            raise Unreadable("sealed with another key or for another place") from error

    def fingerprint(self, tenant_id: UUID, plain: bytes) -> bytes:
        """A name for `plain` of 32 bytes that tells nothing of it; equal only for the same tenant and secret."""
        return hmac.digest(self._fingerprint_key(tenant_id), plain, hashlib.sha256)

    def _cipher_of(self, tenant_id: UUID) -> AESGCM:
        return AESGCM(self._derive(b"studio content ", tenant_id))

    def _derive(self, purpose: bytes, tenant_id: UUID) -> bytes:
        return HKDF(SHA256(), length=32, salt=None, info=purpose + tenant_id.bytes).derive(self._secret)


@cache
def seal() -> Seal:
    """The seal of this process; SettingMissing when it was not given the secret."""
    key = settings().content_key
    if key is None:
        raise SettingMissing("STUDIO_CONTENT_KEY is not set for this process")
    return Seal(key.get_secret_value().encode())

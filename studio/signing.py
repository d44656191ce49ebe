"""Signs what others must be able to check without us: Ed25519, with a key derived from one secret."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from studio.settings import SettingMissing, Settings

_ID_LENGTH = 16


class Signer:
    """The same secret and purpose always give the same key. `repr` shows nothing of it."""

    def __init__(self, secret: bytes, purpose: bytes = b"studio isolation certificates") -> None:
        seed = HKDF(SHA256(), length=32, salt=None, info=purpose).derive(secret)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key()
        self.public_key = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.key_id = hashlib.sha256(public.public_bytes_raw()).hexdigest()[:_ID_LENGTH]

    @classmethod
    def from_settings(cls, settings: Settings) -> Signer:
        """SettingMissing for a process that was not given the secret."""
        if settings.certificate_key is None:
            raise SettingMissing("STUDIO_CERTIFICATE_KEY is not set for this process")
        return cls(settings.certificate_key.get_secret_value().encode())

    @classmethod
    def of_receipts(cls, settings: Settings) -> Signer:
        """The key of a gateway's receipts, from the secret that all gateways share. It signs no certificate."""
        if settings.content_key is None:
            raise SettingMissing("STUDIO_CONTENT_KEY is not set for this process")
        return cls(settings.content_key.get_secret_value().encode(), b"studio receipts")

    def sign(self, document: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(document)


def is_signed(document: bytes, signature: bytes, public_key_pem: str) -> bool:
    """Whether the holder of the key signed exactly these bytes; ValueError for what is no Ed25519 key."""
    key = load_pem_public_key(public_key_pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("this is no Ed25519 key")
    try:
        key.verify(signature, document)
    except InvalidSignature:
        return False
    return True

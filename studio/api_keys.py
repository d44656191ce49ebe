"""API keys: `xpu_<id><secret><checksum>`; minted once, shown once, kept as a SHA-256 hash.

The secret has 160 random bits, so an unsalted fast hash is the right one: there is nothing to guess. The checksum lets
the gateway (and secret scanners) tell a mistyped key from an unknown one without asking the database.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from dataclasses import dataclass, field

PREFIX = "xpu_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 8, 27, 6
_LENGTH = len(PREFIX) + _ID_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key at its birth, the only moment at which its text exists."""

    text: str = field(repr=False)
    prefix: str  # `xpu_` + id: shown in lists, findable in logs
    secret_hash: bytes


def mint() -> MintedKey:
    """A new random key."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH + _SECRET_LENGTH))
    text = PREFIX + body + _checksum(body)
    return MintedKey(text, PREFIX + body[:_ID_LENGTH], digest(text))


def digest(text: str) -> bytes:
    """What the database keeps of a key."""
    return hashlib.sha256(text.encode()).digest()


def is_well_formed(text: str) -> bool:
    """False for anything that `mint` cannot have made: a typo, a cut key, another vendor's key."""
    if len(text) != _LENGTH or not text.startswith(PREFIX) or not text.isascii():
        return False
    body, checksum = text[len(PREFIX) : -_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return _checksum(body) == checksum


def _checksum(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits

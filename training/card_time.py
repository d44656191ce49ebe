"""How long a trainer has held its cards, told with each step: what a fine-tune costs us, not what it is billed by."""

from __future__ import annotations


def card_time(cards: int, seconds: float, attempt: int) -> dict[str, float]:
    """What a step's metrics say of it; nothing without cards. `seconds`: since the trainer began, `attempt`: which one,
    since a later one begins anew."""
    return {"card_seconds": round(cards * seconds, 3), "attempt": attempt} if cards else {}

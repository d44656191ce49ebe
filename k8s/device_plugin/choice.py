"""Which cards a container should get, when the kubelet may choose: those that are linked best. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

# Distance of two cards by the vendor's topology level. MetaXLink first, then the nearest way over PCIe.
_DISTANCES = {0: 0, 5: 1, 1: 2, 2: 3, 3: 4, 4: 5, 6: 6}
_UNKNOWN = 7

Levels = Mapping[frozenset[str], int]  # by pair of ids


def choose(available: Collection[str], must_include: Collection[str], size: int, levels: Levels) -> list[str]:
    """`size` of the available ids, with those that must be in it: the ones nearest together.

    Among equals, those that are farthest from what stays behind: a linked pair is not torn apart for a container that
    wants one card while another card stands alone. ValueError when there are too few.
    """
    fixed = sorted(must_include)
    others = sorted(set(available) - set(fixed))
    wanted = size - len(fixed)
    if wanted < 0 or wanted > len(others):
        raise ValueError(f"{size} of {len(available)} cards with {len(fixed)} given cannot be chosen")

    def cost(chosen: tuple[str, ...]) -> tuple[int, int, tuple[str, ...]]:
        inside = [*fixed, *chosen]
        left = [card for card in others if card not in chosen]
        together = sum(_distance(a, b, levels) for a, b in combinations(inside, 2))
        torn = sum(_UNKNOWN - _distance(a, b, levels) for a in inside for b in left)
        return together, torn, chosen

    return [*fixed, *min(combinations(others, wanted), key=cost)]


def _distance(a: str, b: str, levels: Levels) -> int:
    return _DISTANCES.get(levels.get(frozenset((a, b)), -1), _UNKNOWN)

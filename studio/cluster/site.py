"""The cluster of this installation, as its site file declares it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from studio.catalog.declaration import DeclaredCluster
from studio.catalog.reading import content_hash, read_catalog


def declared_cluster(folder: Path, site: str) -> DeclaredCluster | None:
    """None for a site without one. CatalogInvalid when the files cannot be read."""
    return _of(folder, site, content_hash(folder, site))


@lru_cache(1)
def _of(folder: Path, site: str, _content: str) -> DeclaredCluster | None:
    # Sensors ask every few seconds, and judging the whole catalog takes longer than a look at its hash.
    return read_catalog(folder, site).site.cluster

"""The catalog asset: a file with an error changes nothing, and says where."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.catalog import CatalogFiles
from tests.billing.books import CATALOG, Books
from tests.orchestration.location import Location


def test_a_broken_file_fails_the_asset_and_is_not_tried_for_ever(
    books: Books, location: Location, tmp_path: Path
) -> None:
    shutil.copytree(CATALOG.folder, tmp_path / "catalog")
    with (tmp_path / "catalog/models/chat.yaml").open("a") as file:
        file.write("colour: blue\n")
    broken = Location(
        location.resources | {"catalog_files": CatalogFiles(tmp_path / "catalog", CATALOG.site)}, location.instance
    )
    for _ in range(3):
        (request,) = broken.asks("catalog_changed")
        with pytest.raises(dg.Failure, match=r"the catalog was not changed:\n.*chat\.yaml:\d+: .*colour"):
            broken.run("sync_catalog", tags=request.tags)
    assert broken.asks("catalog_changed") == []
    (latest,) = location.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("catalog"), "catalog_files_are_valid"), limit=1
    )
    assert latest.status.value == "FAILED"
    with books.database.superuser() as connection:
        assert connection.execute("select count(*) from catalog_syncs").fetchone() == (1,)

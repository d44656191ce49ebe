"""Every way a catalog file can be wrong is found, named by file and line, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from studio import clock
from studio.catalog.judged import CatalogInvalid
from studio.catalog.reading import read_catalog
from studio.catalog.sync import sync_catalog
from studio.db.catalog import CatalogSync, Model, ModelVariant, Price, PriceTier
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY

QWEN = "models/qwen3-32b.yaml"
MINILM = "models/all-minilm-l6-v2.yaml"


def spoil(files: Path, name: str, old: str, new: str) -> int:
    """Replace the first occurrence; the line number of the change."""
    path = files / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def findings(files: Path) -> list[str]:
    with pytest.raises(CatalogInvalid) as caught:
        read_catalog(files, "local")
    return [str(finding) for finding in caught.value.findings]


def test_the_catalog_of_this_repository_is_right() -> None:
    catalog = read_catalog(REPOSITORY / "catalog", "local")
    assert {model.id for model in catalog.models} >= {"qwen3-32b", "deepseek-v2-236b", "smollm2-135m-instruct"}
    assert all({variant.tier for variant in model.variants} >= {"base"} for model in catalog.models)


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (QWEN, "publisher: Qwen", "publisher: Qwen\npublishr: Qwen", "unknown field `publishr`"),
        (QWEN, "name: Qwen3-32B\n", "", "`name` is missing"),
        (
            QWEN,
            "prompt: 0.1\n          cached_prompt: 0.05",
            "prompt: 0.1",
            "the EUR price of cached_prompt is missing",
        ),
        (QWEN, "weights_bytes: 34500000000", "weights_bytes: 65600000000", "do not fit on 1 x MXC500"),
        (QWEN, "CNY:", "RMB:", "'RMB' is no ISO 4217 code for invoices: write CNY"),
        (QWEN, "prompt: 0.1\n", "prompt: -0.1\n", "Input should be greater than or equal to 0"),
        (QWEN, "id: qwen3-32b\n", "id: qwen3-33b\n", "must be called qwen3-33b.yaml"),
        (QWEN, "id: qwen3-32b\n", "id: qwen/qwen3-32b\n", "must be called qwen--qwen3-32b.yaml"),
        (QWEN, "id: qwen3-32b\n", "id: qwen--qwen3-32b\n", "should match pattern"),
        (QWEN, "id: qwen3-32b\n", "id: a/qwen/qwen3-32b\n", "should match pattern"),
        (QWEN, "id: qwen3-32b\n", "id: ../qwen3-32b\n", "should match pattern"),
        (QWEN, "context_tokens: 32768", "context_tokens: 50000", "50000 tokens are more than the model's 40960"),
        (QWEN, "task: chat", "task: chat\ntask: chat", "'task' is given twice"),
        (QWEN, "task: chat", "task: [chat", "expected ',' or ']'"),
        (QWEN, "prompt: 0.1\n", "prompt: 0.000001\n", "half the EUR price of prompt, for batches, has more than 6"),
        (
            QWEN,
            "prompt: 0.1\n",
            "prompt: 0.1\n          tiers: {prompt: [{from_tokens: 1000, per_million: 0.1}]}\n",
            "each tier of prompt must begin later and cost less than the last",
        ),
        (
            QWEN,
            "tier: base\n",
            "tier: base\n    first_token_target: {milliseconds: 1}\n",
            "only a fast tier beside a base",
        ),
        ("legal_entities.yaml", "currency: EUR", "currency: RMB", "write CNY"),
        (MINILM, "reused: 5\n", "reused: 51\n", "the EUR price of reused tokens is above that of asking an engine"),
        (MINILM, "embedding: 50", "embedding: 50\n          prompt: 0.01", "embedding models have no prompt price"),
        ("sites/local.yaml", "variant: all-minilm-l6-v2", "variant: nosuch", "no catalog file declares nosuch"),
        ("legal_entities.yaml", "Europe/Berlin", "Europe/Bärlin", "there is no time zone named"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(files: Path, name: str, old: str, new: str, sentence: str) -> None:
    line = spoil(files, name, old, new)
    found = findings(files)
    assert any(finding.startswith(f"{name}:") and sentence in finding for finding in found), found
    reported = int(next(finding for finding in found if sentence in finding).split(":")[1])
    assert abs(reported - line) <= 4  # a missing field is reported where its parent starts


def test_overlapping_price_dates_are_refused(files: Path) -> None:
    amounts = "".join(f"          {unit}: 1\n" for unit in ("prompt", "cached_prompt", "completion"))
    second = f"        - valid_from: 2025-06-01T00:00:00+02:00\n{amounts}"
    spoil(files, QWEN, "      CNY:\n", f"{second}      CNY:\n")
    assert any("overlaps the one before it" in finding for finding in findings(files))


def test_all_findings_come_at_once(files: Path) -> None:
    spoil(files, QWEN, "publisher: Qwen\n", "")
    spoil(files, MINILM, "licence: Apache-2.0\n", "")
    found = findings(files)
    assert any("`publisher` is missing" in finding for finding in found)
    assert any("`licence` is missing" in finding for finding in found)


def sync(worker: Engine, files: Path) -> None:
    with unit_of_work(worker) as session:
        sync_catalog(session, files, "local")


def test_a_broken_catalog_changes_nothing(worker: Engine, files: Path) -> None:
    sync(worker, files)
    (files / "models" / "mistral-7b-v0.1.yaml").unlink()
    spoil(files, QWEN, "publisher: Qwen", "publishr: Qwen")
    with pytest.raises(CatalogInvalid):
        sync(worker, files)
    with unit_of_work(worker) as session:
        assert session.get_one(Model, "mistral-7b-v0.1").retired_at is None
        assert session.scalar(select(func.count()).select_from(CatalogSync)) == 1


def test_a_removed_model_is_retired_and_comes_back(worker: Engine, files: Path) -> None:
    sync(worker, files)
    path = files / "models" / "mistral-7b-v0.1.yaml"
    kept = path.read_text()
    path.unlink()
    sync(worker, files)
    with unit_of_work(worker) as session:
        assert session.get_one(ModelVariant, "mistral-7b-v0.1").retired_at is not None
    path.write_text(kept)
    sync(worker, files)
    with unit_of_work(worker) as session:
        assert session.get_one(ModelVariant, "mistral-7b-v0.1").retired_at is None


class TestPricesAreAppendOnly:
    def prices(self, worker: Engine) -> list[tuple[str, bool]]:
        """Amount and whether the row has an end, of one list."""
        with unit_of_work(worker) as session:
            rows = session.execute(
                select(Price.per_million, Price.valid_until)
                .where(Price.variant_id == "qwen3-32b", Price.currency == "EUR", Price.unit == "prompt")
                .order_by(Price.valid_from)
            )
            return [(f"{amount.normalize():f}", end is not None) for amount, end in rows]

    def test_changing_an_amount_is_refused(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        spoil(files, QWEN, "prompt: 0.1\n", "prompt: 0.2\n")
        with pytest.raises(CatalogInvalid, match=r"is 0\.1 and never changes"):
            sync(worker, files)
        assert self.prices(worker) == [("0.1", False)]

    def test_a_new_price_ends_the_old_one_where_it_begins(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        spoil(files, QWEN, "      CNY:\n", self.entry(timedelta(days=7)))
        sync(worker, files)
        sync(worker, files)  # again: nothing changes
        assert self.prices(worker) == [("0.1", True), ("0.15", False)]

    def test_tiers_come_with_their_price_at_half_for_batches_and_never_change(
        self, worker: Engine, files: Path
    ) -> None:
        tiers = "prompt: 0.1\n          tiers: {prompt: [{from_tokens: 1000, per_million: %s}]}\n"
        spoil(files, QWEN, "prompt: 0.1\n", tiers % "0.08")
        for _ in range(2):
            sync(worker, files)
        with unit_of_work(worker) as session:
            steps = session.execute(
                select(Price.unit, Price.currency, PriceTier.from_tokens, PriceTier.per_million)
                .join(Price, Price.id == PriceTier.price_id)
                .order_by(Price.unit)
            ).all()
        assert [tuple(step) for step in steps] == [
            ("batch_prompt", "EUR", 1000, Decimal("0.04")),
            ("prompt", "EUR", 1000, Decimal("0.08")),
        ]
        spoil(files, QWEN, "per_million: 0.08", "per_million: 0.07")
        with pytest.raises(CatalogInvalid, match="has tiers that never change"):
            sync(worker, files)

    def test_a_new_price_in_the_past_is_refused(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        spoil(files, QWEN, "      CNY:\n", self.entry(timedelta(days=-1)))
        with pytest.raises(CatalogInvalid, match="begins in the past"):
            sync(worker, files)
        assert self.prices(worker) == [("0.1", False)]

    @staticmethod
    def entry(offset: timedelta) -> str:
        begins = (clock.now() + offset).isoformat(timespec="seconds")
        amounts = "          prompt: 0.15\n          cached_prompt: 0.1\n          completion: 0.3\n"
        return f"        - valid_from: {begins}\n{amounts}      CNY:\n"


@pytest.mark.parametrize("change", [lambda text: text + "\n# a remark\n", lambda text: text])
def test_the_hash_tells_whether_a_sync_is_due(worker: Engine, files: Path, change: Callable[[str], str]) -> None:
    from studio.catalog.reading import content_hash

    sync(worker, files)
    path = files / QWEN
    before = path.read_text()
    path.write_text(change(before))
    with unit_of_work(worker) as session:
        synced = session.scalar(select(CatalogSync.content_hash))
    assert (content_hash(files, "local") == synced) == (path.read_text() == before)

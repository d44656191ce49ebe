"""Opening hours in the catalog: what is wrong is named by file and line, what is right stands in the tables."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from studio import clock, ids
from studio.catalog.hours_sync import ALWAYS
from studio.catalog.judged import CatalogInvalid
from studio.catalog.reading import read_catalog
from studio.db.catalog import ModelVariant
from studio.db.hours import SITE, Calendar, Holiday, HoursOverride, OpeningHours
from studio.db.sessions import unit_of_work
from tests.studio.test_catalog_files import QWEN, findings, spoil, sync

CALENDARS = "calendars.yaml"
SITE_FILE = "sites/local.yaml"
CHAT = "smollm2-135m-instruct"
SECOND = '      - days: [sun, fri]\n        opens: "17:59"\n        closes: "20:00"\n'


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (CALENDARS, "Europe/Berlin", "Europe/Atlantis", "there is no time zone named 'Europe/Atlantis'"),
        (CALENDARS, '"18:00"', "18:00", "in quotes"),
        (CALENDARS, '"18:00"', '"25:00"', "hour value is outside"),
        (CALENDARS, '"18:00"', '"08:00"', "close before they open"),
        (CALENDARS, "[mon, tue", "[mon, mon", "a day is named twice"),
        (CALENDARS, "[mon, tue", "[mon, dienstag", "Input should be 'mon'"),
        (CALENDARS, "day: 2026-05-01", "day: 2026-01-01", "2026-01-01 is a holiday twice"),
        (CALENDARS, "prewarm_minutes: 30", "prewarm_minutes: 300", "less than or equal to 240"),
        (QWEN, "calendar: office", "calendar: offise", "no calendar is named offise"),
        (SITE_FILE, "    replicas: open", "    replicas: -1", "greater than or equal to 0"),
        (SITE_FILE, f"overrides:\n  - variant: {CHAT}", "overrides:\n  - variant: nosuch", "could be overridden"),
        (SITE_FILE, f"overrides:\n  - variant: {CHAT}", f"overrides:\n  - variant: {CHAT}-fast", "could be overridden"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(files: Path, name: str, old: str, new: str, sentence: str) -> None:
    line = spoil(files, name, old, new)
    found = [finding for finding in findings(files) if sentence in finding]
    assert found, findings(files)
    assert found[0].startswith(f"{name}:")
    assert abs(int(found[0].split(":")[1]) - line) <= 2


def test_overlapping_hours_are_refused_and_change_nothing(worker: Engine, files: Path) -> None:
    sync(worker, files)
    spoil(files, CALENDARS, "    # Public", f"{SECOND}    # Public")
    assert [finding for finding in findings(files) if "overlap earlier ones on fri" in finding]
    with pytest.raises(CatalogInvalid):
        sync(worker, files)
    with unit_of_work(worker) as session:
        assert session.scalar(select(func.count()).select_from(OpeningHours)) == 5


def test_a_catalog_without_calendars_is_open_around_the_clock(files: Path) -> None:
    (files / CALENDARS).unlink()
    for model in (files / "models").glob("*.yaml"):
        model.write_text(model.read_text().replace("    calendar: office\n", ""))
    assert read_catalog(files, "local").calendars == ()


class TestSync:
    def test_calendars_stand_in_the_tables(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        sync(worker, files)
        with unit_of_work(worker) as session:
            assert session.get_one(Calendar, "office").time_zone == "Europe/Berlin"
            assert sorted(session.scalars(select(OpeningHours.weekday))) == [1, 2, 3, 4, 5]
            assert session.get_one(Holiday, ("office", date(2027, 3, 26))).name == "Karfreitag"
            assert session.get_one(ModelVariant, "qwen3-32b").calendar_id == "office"
            assert session.get_one(ModelVariant, "mistral-7b-v0.1-fast").closed_replicas == 1

    def test_a_calendar_that_nobody_declares_any_more_is_gone(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        (files / CALENDARS).unlink()
        for model in (files / "models").glob("*.yaml"):
            model.write_text(model.read_text().replace("    calendar: office\n", ""))
        sync(worker, files)
        with unit_of_work(worker) as session:
            for table in (Calendar, OpeningHours, Holiday):
                assert session.scalar(select(func.count()).select_from(table)) == 0

    def test_the_sites_overrides_follow_its_file_and_those_of_people_stay(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        with unit_of_work(worker) as session:
            session.add(
                HoursOverride(
                    id=ids.uuid7(),
                    variant_id=CHAT,
                    starts_at=clock.now(),
                    ends_at=None,
                    replicas=0,
                    reason="maintenance",
                    created_by="xpu_ops",
                )
            )
        sync(worker, files)
        assert standing(worker) == [("all-minilm-l6-v2", 1, SITE), (CHAT, 0, "xpu_ops"), (CHAT, 1, SITE)]
        spoil(files, SITE_FILE, "    replicas: open", "    replicas: 2")
        sync(worker, files)
        assert standing(worker) == [("all-minilm-l6-v2", 1, SITE), (CHAT, 0, "xpu_ops"), (CHAT, 2, SITE)]
        text = (files / SITE_FILE).read_text()
        (files / SITE_FILE).write_text(text[: text.index("overrides:")])
        sync(worker, files)
        assert standing(worker) == [(CHAT, 0, "xpu_ops")]

    def test_the_sites_overrides_hold_since_always(self, worker: Engine, files: Path) -> None:
        sync(worker, files)
        with unit_of_work(worker) as session:
            assert set(session.scalars(select(HoursOverride.starts_at))) == {ALWAYS}


def standing(worker: Engine) -> list[tuple[str, int | None, str]]:
    """Overrides without an end."""
    columns = (HoursOverride.variant_id, HoursOverride.replicas, HoursOverride.created_by)
    with unit_of_work(worker) as session:
        return sorted(session.execute(select(*columns).where(HoursOverride.ends_at.is_(None))).tuples())

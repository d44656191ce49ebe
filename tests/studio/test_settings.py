"""The settings reference is complete, and a process asks only for what it was given."""

from __future__ import annotations

import pytest

from studio.settings import REPOSITORY, SettingMissing, Settings


def test_every_setting_is_in_the_reference() -> None:
    reference = (REPOSITORY / "docs" / "settings.md").read_text()
    missing = [
        name
        for name, field in Settings.model_fields.items()
        if f"| `STUDIO_{name.upper()}` |" not in reference or str(field.description) not in reference
    ]
    assert missing == []


def test_a_role_that_a_process_was_not_given_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDIO_DATABASE_OWNER_URL", raising=False)
    with pytest.raises(SettingMissing, match="STUDIO_DATABASE_OWNER_URL is not set"):
        Settings().database_url("owner")


def test_no_secret_shows_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CACHE_SALT_KEY", "do-not-print")
    assert "do-not-print" not in repr(Settings())

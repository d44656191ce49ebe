"""reserved cards as usage, days in budgets, what was overtaken

Revision ID: 0036
Revises: 0035
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0036_cards_and_keeping_up.sql")


def downgrade() -> None:
    _run("0036_cards_and_keeping_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

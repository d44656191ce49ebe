"""what a re-rating of a final month comes to is corrected, and a tenant closes on a day to come

Revision ID: 0033
Revises: 0032
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0033_rerated_corrections_up.sql")


def downgrade() -> None:
    _run("0033_rerated_corrections_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

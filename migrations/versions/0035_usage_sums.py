"""usage summed by day, for reports

Revision ID: 0035
Revises: 0034
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0035_usage_sums_up.sql")


def downgrade() -> None:
    _run("0035_usage_sums_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

"""requests for credit can be declined; tenants read the figures of the monthly report

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0024_declined_up.sql")


def downgrade() -> None:
    _run("0024_declined_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

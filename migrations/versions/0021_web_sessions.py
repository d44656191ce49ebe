"""sign-in in the browser, one-time links, measured speed per variant, the tenant of the try-it box

Revision ID: 0021
Revises: 0015
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0021_web_sessions_up.sql")


def downgrade() -> None:
    _run("0021_web_sessions_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

"""a double-entry ledger with lots of credit and a daily chain of hashes

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0014_ledger_up.sql")


def downgrade() -> None:
    _run("0014_ledger_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

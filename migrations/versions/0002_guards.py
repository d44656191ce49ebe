"""guards: what the database itself refuses, whoever asks

Roles and grants, row-level security, append-only and immutability triggers, and the few functions that let a role do
one exact thing it may not do otherwise. The roles themselves (`studio_owner`, ...) are made by whoever owns the
server: `local/postgres.py` on one machine, the operator in a cluster (docs/operator-guide.md).

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("0002_guards_up.sql")


def downgrade() -> None:
    _run("0002_guards_down.sql")


def _run(file: str) -> None:
    """Many statements at once, straight to the driver: SQLAlchemy would take the % of format() for a placeholder."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((HERE / file).read_text())

"""Index every foreign key column: walking from an experiment to its rows read whole tables.

Revision ID: d498e961c89f
Revises: 54e37debcb31
Create Date: 2025-03-17 14:30:02.551903
"""

from alembic import op

revision = "d498e961c89f"
down_revision = "54e37debcb31"
branch_labels = None
depends_on = None

FOREIGN_KEY_COLUMNS = (
    ("run", "experiment_id"),
    ("invocation", "run_id"),
    ("invocation", "input_invocation_id"),
    ("embedding", "invocation_id"),
)


def upgrade() -> None:
    for table, column in FOREIGN_KEY_COLUMNS:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def downgrade() -> None:
    for table, column in reversed(FOREIGN_KEY_COLUMNS):
        op.drop_index(op.f(f"ix_{table}_{column}"), table_name=table)

"""Create the tables of the shape N.

Revision ID: 4e6172726f77
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "4e6172726f77"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "roots",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "parents",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(250)),
        sa.Column("root_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["root_id"], ["roots.id"]),
    )
    op.create_table(
        "metrics",
        sa.Column("key", sa.String(250), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("step", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_nan", sa.Boolean(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("key", "timestamp", "step", "run_id", "value", "is_nan", name="metric_pk"),
        sa.ForeignKeyConstraint(["run_id"], ["parents.id"]),
    )
    op.create_index("ix_metrics_run_id", "metrics", ["run_id"])


def downgrade() -> None:
    op.drop_table("metrics")
    op.drop_table("parents")
    op.drop_table("roots")

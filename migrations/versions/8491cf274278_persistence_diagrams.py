"""Persistence diagrams: one more thing that is computed for a run.

Revision ID: 8491cf274278
Revises: d498e961c89f
Create Date: 2025-04-02 08:05:19.774021
"""

import sqlalchemy as sa
from alembic import op

revision = "8491cf274278"
down_revision = "d498e961c89f"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "persistencediagram",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.Column("diagram_data", sa.LargeBinary(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_persistencediagram_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_persistencediagram")),
    )
    op.create_index(op.f("ix_persistencediagram_run_id"), "persistencediagram", ["run_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_persistencediagram_run_id"), table_name="persistencediagram")
    op.drop_table("persistencediagram")

"""Require a run's prompt and an invocation's position; rows without one get the default.

Revision ID: 88655e3310e8
Revises: 3b7308c3b300
Create Date: 2025-05-06 11:21:50.902817
"""

import sqlalchemy as sa
from alembic import op

revision = "88655e3310e8"
down_revision = "3b7308c3b300"
branch_labels = None
depends_on = None

run = sa.table("run", sa.column("initial_prompt", sa.String()))
invocation = sa.table("invocation", sa.column("sequence_number", sa.Integer()))


def upgrade() -> None:
    op.execute(run.update().where(run.c.initial_prompt.is_(None)).values(initial_prompt=""))
    op.execute(invocation.update().where(invocation.c.sequence_number.is_(None)).values(sequence_number=0))
    with op.batch_alter_table("run") as batch:
        batch.alter_column(
            "initial_prompt",
            existing_type=sa.String(),
            nullable=False,
            server_default=sa.text("''"),
        )
    with op.batch_alter_table("invocation") as batch:
        batch.alter_column(
            "sequence_number",
            existing_type=sa.Integer(),
            nullable=False,
            server_default=sa.text("0"),
        )


def downgrade() -> None:
    # The filled-in values stay: an empty prompt and position 0 are valid in the revision before.
    with op.batch_alter_table("invocation") as batch:
        batch.alter_column(
            "sequence_number",
            existing_type=sa.Integer(),
            existing_server_default=sa.text("0"),
            nullable=True,
            server_default=None,
        )
    with op.batch_alter_table("run") as batch:
        batch.alter_column(
            "initial_prompt",
            existing_type=sa.String(),
            existing_server_default=sa.text("''"),
            nullable=True,
            server_default=None,
        )

"""Say which embedding model a diagram was computed from; of earlier diagrams it is `unknown`.

Revision ID: 01ef4120e959
Revises: 88655e3310e8
Create Date: 2025-05-20 07:56:11.413590
"""

import sqlalchemy as sa
from alembic import op

revision = "01ef4120e959"
down_revision = "88655e3310e8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("persistencediagram") as batch:
        batch.add_column(sa.Column("embedding_model", sa.String(), nullable=False, server_default="unknown"))
    # Only the rows of before may be unknown, so the default goes once it has filled them. Not in
    # the batch above: SQLite would build the new table without the default and fill it with NULL.
    with op.batch_alter_table("persistencediagram") as batch:
        batch.alter_column(
            "embedding_model",
            existing_type=sa.String(),
            existing_nullable=False,
            existing_server_default="unknown",
            server_default=None,
        )


def downgrade() -> None:
    # The diagrams stay, several for a run; which model each came from is forgotten.
    with op.batch_alter_table("persistencediagram") as batch:
        batch.drop_column("embedding_model")

"""Allow one embedding per invocation and model; of duplicates the one with the lowest id stays.

Revision ID: e5894a7b84f3
Revises: 01ef4120e959
Create Date: 2025-06-11 13:02:28.667154
"""

import sqlalchemy as sa
from alembic import op

revision = "e5894a7b84f3"
down_revision = "01ef4120e959"
branch_labels = None
depends_on = None

embedding = sa.table(
    "embedding",
    sa.column("id", sa.Uuid()),
    sa.column("invocation_id", sa.Uuid()),
    sa.column("embedding_model", sa.String()),
)
CONSTRAINT = "uq_embedding_invocation_id_embedding_model"


def upgrade() -> None:
    delete_duplicates()
    with op.batch_alter_table("embedding") as batch:
        batch.create_unique_constraint(CONSTRAINT, ["invocation_id", "embedding_model"])


def downgrade() -> None:
    # Deleted duplicates don't come back; an embedding can be computed again from its invocation.
    with op.batch_alter_table("embedding") as batch:
        batch.drop_constraint(CONSTRAINT, type_="unique")


def delete_duplicates() -> None:
    other = embedding.alias("other")
    preferred = (
        sa.select(sa.literal(1))
        .select_from(other)
        .where(
            other.c.invocation_id == embedding.c.invocation_id,
            other.c.embedding_model == embedding.c.embedding_model,
            other.c.id < embedding.c.id,
        )
        .correlate(embedding)
    )
    op.execute(embedding.delete().where(preferred.exists()))

"""First tables: experiments, their runs, what the runs produced, and its embeddings.

Revision ID: 54e37debcb31
Revises:
Create Date: 2025-03-03 09:12:44.108215
"""

import sqlalchemy as sa
from alembic import op

revision = "54e37debcb31"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_experimentconfig()
    create_run()
    create_invocation()
    create_embedding()


def downgrade() -> None:
    op.drop_table("embedding")
    op.drop_table("invocation")
    op.drop_table("run")
    op.drop_table("experimentconfig")


def create_experimentconfig() -> None:
    op.create_table(
        "experimentconfig",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("networks", sa.JSON(), nullable=False),
        sa.Column("seeds", sa.JSON(), nullable=False),
        sa.Column("prompts", sa.JSON(), nullable=False),
        sa.Column("embedding_models", sa.JSON(), nullable=False),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experimentconfig")),
    )


def create_run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("network", sa.JSON(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("initial_prompt", sa.String(), nullable=True),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experimentconfig.id"],
            name=op.f("fk_run_experiment_id_experimentconfig"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )


def create_invocation() -> None:
    op.create_table(
        "invocation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("type", sa.String(length=5), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("sequence_number", sa.Integer(), nullable=True),
        sa.Column("input_invocation_id", sa.Uuid(), nullable=True),
        sa.Column("output_text", sa.String(), nullable=True),
        sa.Column("output_image_data", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["input_invocation_id"],
            ["invocation.id"],
            name=op.f("fk_invocation_input_invocation_id_invocation"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_invocation_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invocation")),
    )


def create_embedding() -> None:
    op.create_table(
        "embedding",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.Column("invocation_id", sa.Uuid(), nullable=False),
        sa.Column("embedding_model", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["invocation_id"],
            ["invocation.id"],
            name=op.f("fk_embedding_invocation_id_invocation"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding")),
    )

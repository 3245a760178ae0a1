"""Spell invocation types in capitals: `text` and ` Text` become `TEXT`.

Revision ID: 3b7308c3b300
Revises: 8491cf274278
Create Date: 2025-04-14 16:48:37.230466
"""

import sqlalchemy as sa
from alembic import op

revision = "3b7308c3b300"
down_revision = "8491cf274278"
branch_labels = None
depends_on = None

invocation = sa.table("invocation", sa.column("type", sa.String()))


def upgrade() -> None:
    respell(sa.func.upper(sa.func.trim(invocation.c.type)))


def downgrade() -> None:
    # The code of the revision before wrote small letters and accepts any mixture, so this is the
    # spelling it expects; which rows had been mixed is not remembered.
    respell(sa.func.lower(invocation.c.type))


def respell(spelling: sa.Function[str]) -> None:
    op.execute(invocation.update().where(invocation.c.type != spelling).values(type=spelling))

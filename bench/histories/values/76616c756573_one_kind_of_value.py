"""Create the table of one kind of value, which `-x kind=NAME` names.

Revision ID: 76616c756573
Revises:
"""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "76616c756573"
down_revision = None
branch_labels = None
depends_on = None

TYPES = {
    "big_integers": sa.BigInteger(),
    "integers_of_64_bits": sa.Integer(),
    "small_integers": sa.SmallInteger(),
    "text_in_integer": sa.Integer(),
    "fraction_in_integer": sa.Integer(),
    "empty_text_in_integer": sa.Integer(),
    "floats": sa.Float(),
    "infinity": sa.Float(),
    "negative_zero": sa.Float(),
    "text_in_float": sa.Float(),
    "single_precision": sa.REAL(),
    "numeric": sa.Numeric(10, 2),
    "numeric_more_digits": sa.Numeric(10, 2),
    "numeric_many_digits": sa.Numeric(38, 10),
    "text_in_numeric": sa.Numeric(10, 2),
    "text": sa.Text(),
    "digits_as_text": sa.Text(),
    "empty_and_null": sa.Text(),
    "nul_in_text": sa.Text(),
    "invalid_utf8": sa.Text(),
    "blob_in_text": sa.Text(),
    "number_in_text": sa.Text(),
    "long_varchar": sa.String(5),
    "char_with_spaces": sa.CHAR(5),
    "booleans": sa.Boolean(),
    "boolean_2": sa.Boolean(),
    "boolean_as_text": sa.Boolean(),
    "timestamps": sa.DateTime(),
    "timestamps_with_offset": sa.DateTime(),
    "timestamps_of_epoch": sa.DateTime(),
    "zoned_timestamps": sa.DateTime(timezone=True),
    "zoned_without_zone": sa.DateTime(timezone=True),
    "dates": sa.Date(),
    "impossible_date": sa.Date(),
    "times": sa.Time(),
    "time_24_00": sa.Time(),
    "intervals": sa.Interval(),
    "json": sa.JSON(),
    "json_doubled_key": sa.JSON(),
    "jsonb_doubled_key": sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
    "json_invalid": sa.JSON(),
    "uuids": sa.Uuid(),
    "uuid_malformed": sa.Uuid(),
    "blobs": sa.LargeBinary(),
    "text_in_blob": sa.LargeBinary(),
    "enum": sa.Enum("red", "green", name="colour"),
    "enum_other_label": sa.Enum("red", "green", name="colour"),
}


def upgrade() -> None:
    kind = context.get_x_argument(as_dictionary=True)["kind"]
    op.create_table(
        kind,
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("value", TYPES[kind]),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table(context.get_x_argument(as_dictionary=True)["kind"])

"""What a value may lose on its way to another engine: the names that plans, receipts and reports show."""

from collections.abc import Mapping
from types import MappingProxyType

NAN = "NaN becomes NULL"
NEGATIVE_ZERO = "-0.0 becomes 0.0"
SINGLE = "float as 32 bits"
INTEGER_AS_FLOAT = "integer as binary float"
FLOAT_AS_DECIMAL = "binary float as decimal"
DECIMAL_AS_FLOAT = "decimal as binary float"
ZEROS = "zeros behind the point"
PADDING = "padded with spaces"
SPELLING = "spelled otherwise"
NAIVE_AS_UTC = "time without zone taken as UTC"
ZONE = "time zone dropped"
INTERVAL = "hours and days of an interval added up"
JSON = "JSON spelled otherwise"
JSON_DUPLICATES = "JSON without its duplicate keys"
BOUNDS = "array bounds"

MEANING: Mapping[str, str] = MappingProxyType(
    {
        NAN: "SQLite has no NaN, and stores NULL",
        NEGATIVE_ZERO: "SQLite keeps no sign of a zero in such a column",
        SINGLE: "the target's float has 32 bits, and is the one that is nearest",
        INTEGER_AS_FLOAT: "the whole number becomes a float: the nearest one, where there is none that is equal",
        FLOAT_AS_DECIMAL: "the shortest decimal that reads as this float, which is not equal to it",
        DECIMAL_AS_FLOAT: "the binary float that is nearest to this decimal, which is not equal to it",
        ZEROS: "a decimal of no declared scale loses the zeros that it ends with",
        PADDING: "CHAR(n) of PostgreSQL is filled up with spaces",
        SPELLING: "the same value; but the target has one spelling only of a UUID or a time",
        NAIVE_AS_UTC: "the target's times have a zone, the source's have none: UTC is what they are taken for",
        ZONE: "the same moment as UTC, but no longer that it has a zone, or which",
        INTERVAL: "SQLAlchemy stores a span of time in SQLite: 24 hours become a day there",
        JSON: "the same value; but the order of keys, spaces, escapes or the digits of a number differ",
        JSON_DUPLICATES: "of keys that an object has twice only the last one is kept",
        BOUNDS: "an array that does not count from 1 counts from 1",
    }
)
"""{loss class: what is lost}"""

"""Why a value can't be held: reasons that name no value, and are the same for all values of that reason."""

from typing import Any

from panicdb.backends.conversions import UnfitError

NUL = "holds NUL"
NO_UTF8 = "not valid UTF-8"
NO_BOOLEAN = "no boolean"
NO_UUID = "no UUID"
NO_LABEL = "no label of the enum"
NO_DATE = "no date"
NO_TIME = "no time of day"
NO_TIMESTAMP = "no timestamp"
NO_JSON = "no JSON"
DEEP_JSON = "JSON in which more than 200 lists and objects are in each other"
NO_ARRAY = "no array as JSON"
FINER = "finer than microseconds"
ZONED = "with a time zone, in a column without"
INEXACT_INTEGER = "an integer that no float is equal to"
OUT_OF_SINGLE = "out of range of a 32-bit float"
OUT_OF_FLOAT = "out of range of a float"
INFINITE = "infinite"
JSON_NUL = "JSON with \\u0000, which jsonb can't hold"
JSON_SURROGATE = "JSON with half a surrogate pair, which jsonb can't hold"
JSON_NUMBER = "JSON with a number that jsonb can't hold"
JSON_STORED = "a JSON number that a column of numbers can't hold"
NUMBER_LIKE = "text that a column of numbers would change"
YEARS = "a year before 1 or after 9999"
MIDNIGHT = "24:00"
MONTHS = "an interval with months"
LONG_INTERVAL = "an interval that leads out of the years 1 to 9999"

_WHAT = {int: "an integer", float: "a float", str: "text", bytes: "bytes"}


def out_of_place(value: Any, column: str) -> UnfitError:
    """Say that a value of this type is none for a column of such values."""
    return UnfitError(f"{_WHAT[type(value)]} in a column of {column}")

"""SQLite to PostgreSQL, times: SQLAlchemy keeps them in SQLite as text, and a span of time as a moment."""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any

from panicdb.backends.conversions import Conversion, Raw, UnfitError
from panicdb.conversion import losses, refusals
from panicdb.conversion.refusals import out_of_place
from panicdb.values import ColumnType

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - SQLAlchemy's, which has no zone
_MICROSECOND_DIGITS = 6
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_USUAL_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}")
_STAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[ T]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:(?<=:[0-9]{2}:[0-9]{2})\.([0-9]+))?"
    r" ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_USUAL_TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}")
_TIME = re.compile(r"([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:(?<=:[0-9]{2}:[0-9]{2})\.([0-9]+))?")

Convert = Callable[[Any], str]


def _nothing(_value: Raw) -> None:
    return None


def decide_date(_source: ColumnType, _target: ColumnType) -> Conversion:
    """Decide how text becomes dates."""
    return Conversion("", _date, _nothing)


def _date(value: Raw) -> str:
    if type(value) is not str:
        raise out_of_place(value, "dates")
    if _DATE.fullmatch(value) is None:
        raise UnfitError(refusals.NO_DATE)
    try:
        date.fromisoformat(value)
    except ValueError:
        raise UnfitError(refusals.NO_DATE) from None
    return value


def decide_time(_source: ColumnType, target: ColumnType) -> Conversion:
    """Decide how text becomes times of day."""
    return Conversion("", _rounded(_time, target), partial(_loss_of_spelling, _USUAL_TIME))


def _time(value: Raw) -> str:
    if type(value) is not str:
        raise out_of_place(value, "times")
    match = _TIME.fullmatch(value)
    if match is None:
        raise UnfitError(refusals.NO_TIME)
    try:
        found = time.fromisoformat(match[1])
    except ValueError:
        raise UnfitError(refusals.NO_TIME) from None
    return found.replace(microsecond=_microseconds(match[2])).isoformat("microseconds")


def _microseconds(fraction: str | None) -> int:
    if fraction is None:
        return 0
    if fraction[_MICROSECOND_DIGITS:].strip("0"):
        raise UnfitError(refusals.FINER)
    return int(fraction[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, "0"))


def _loss_of_spelling(usual: re.Pattern[str], value: Any) -> str | None:
    return None if usual.fullmatch(value) else losses.SPELLING


def _rounded(convert: Convert, target: ColumnType) -> Convert:
    """Refuse what a precision below microseconds would round; `convert` ends with six digits."""
    digits = target.scale
    if digits is None or digits >= _MICROSECOND_DIGITS:
        return convert
    return partial(
        _refuse_finer, convert, digits - _MICROSECOND_DIGITS, f"finer than {digits} digits of a second"
    )


def _refuse_finer(convert: Convert, dropped: int, finer: str, value: Raw) -> str:
    text = convert(value)
    fraction = text.partition(".")[2][:_MICROSECOND_DIGITS]
    if fraction[dropped:].strip("0"):
        raise UnfitError(finer)
    return text


def decide_datetime(_source: ColumnType, target: ColumnType) -> Conversion:
    """Decide how text becomes moments, with a zone or without."""
    if target.zoned:
        return Conversion("", _rounded(_moment, target), _loss_of_moment)
    return Conversion("", _rounded(_stamp, target), partial(_loss_of_spelling, _USUAL_STAMP))


def _stamp(value: Raw) -> str:
    found, offset = _read_stamp(value)
    if offset is not None:
        raise UnfitError(refusals.ZONED)
    return found if isinstance(found, str) else found.isoformat(" ", "microseconds")


def _moment(value: Raw) -> str:
    found, offset = _read_stamp(value)
    if isinstance(found, str):
        return found + "+00"
    try:
        moment = found - (offset or timedelta())
    except OverflowError:
        raise UnfitError(refusals.YEARS) from None
    return moment.isoformat(" ", "microseconds") + "+00"


def _loss_of_moment(value: Any) -> str:
    match = _STAMP.fullmatch(value)
    return losses.ZONE if match and match[4] else losses.NAIVE_AS_UTC


def _read_stamp(value: Raw) -> tuple[datetime | str, timedelta | None]:
    """Return the text as it is, where it is spelled as usual, or what it says; and its offset from UTC."""
    if type(value) is not str:
        raise out_of_place(value, "times")
    try:
        if _USUAL_STAMP.fullmatch(value):
            datetime.fromisoformat(value)
            return value, None
        return _unusual_stamp(value)
    except UnfitError:
        raise
    except ValueError:
        raise UnfitError(refusals.NO_TIMESTAMP) from None


def _unusual_stamp(value: str) -> tuple[datetime, timedelta | None]:
    match = _STAMP.fullmatch(value)
    if match is None:
        raise UnfitError(refusals.NO_TIMESTAMP)
    day, clock, fraction, zone = match.groups()
    micros = _microseconds(fraction)
    found = datetime.fromisoformat(f"{day} {clock or '00:00'}").replace(microsecond=micros)
    return found, None if zone is None else _offset(zone)


def _offset(zone: str) -> timedelta:
    known = datetime.fromisoformat("2000-01-01T00:00:00" + zone).utcoffset()
    return known or timedelta()


def decide_interval(_source: ColumnType, target: ColumnType) -> Conversion:
    """Decide how moments become the spans of time that they stand for."""
    return Conversion("", _rounded(_interval, target), partial(_loss_of_spelling, _USUAL_STAMP))


def _interval(value: Raw) -> str:
    """SQLAlchemy stores the moment that lies so long after 1970 began (or before)."""
    span = datetime.fromisoformat(_stamp(value)) - _EPOCH
    return f"{span.days} days {span.seconds}.{span.microseconds:06} seconds"

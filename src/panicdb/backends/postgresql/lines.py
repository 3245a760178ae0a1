"""Rows for another engine, as the server's own text; and what of them SQL can tell to be plain."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import CopyStep, rows_of, value_of
from panicdb.backends.conversions import NULLS, Conversion, Survey, UnfitError
from panicdb.backends.postgresql.rows import copy_out, read_rows, spell
from panicdb.backends.postgresql.sessions import Session

Expression = sa.ColumnElement[Any]
LOOKS_AT_ONCE = 500
"""A server bounds the number of columns of a result."""


def survey(
    session: Session,
    dialect: sa.Dialect,
    step: CopyStep,
    conversions: Mapping[str, Conversion],
    required: frozenset[str],
) -> Survey:
    """Look at the values of a step that are not certain to fit, before any of them travels. Reads only."""
    unfit: Counter[tuple[str, str]] = Counter()
    losses: Counter[tuple[str, str]] = Counter()
    looks = list(_looks(step, conversions, required))
    odd: set[str] = set()
    for start in range(0, len(looks), LOOKS_AT_ONCE):
        part = looks[start : start + LOOKS_AT_ONCE]
        fields = [sa.case((look.found, look.value)).label(f"c{n}") for n, look in enumerate(part)]
        rows = sa.select(*fields).select_from(rows_of(step)).where(sa.or_(*(look.found for look in part)))
        for row in read_rows(session, dialect, rows):
            for look, text in zip(part, row, strict=True):
                if text is None:
                    continue
                if look.judged is None:
                    unfit[look.name, NULLS] += 1
                else:
                    odd.add(look.name)
                    _judge(look.name, look.judged, text, unfit, losses)
    return Survey(dict(unfit), dict(losses), frozenset(conversions) - odd)


@dataclass(frozen=True)
class _Look:
    """What SQL picks out of a column: values that a conversion judges, or NULL, which nothing needs to judge."""

    name: str
    judged: Conversion | None
    found: Expression
    value: Expression


def _looks(
    step: CopyStep, conversions: Mapping[str, Conversion], required: frozenset[str]
) -> Iterator[_Look]:
    for name, conversion in conversions.items():
        value = value_of(step, name)
        if conversion.plain != "any":
            yield _Look(name, conversion, _odd(value, conversion.plain), value)
        if name in required:
            yield _Look(name, None, value.is_(None), sa.literal_column("1"))


def _judge(
    name: str,
    conversion: Conversion,
    text: Any,
    unfit: Counter[tuple[str, str]],
    losses: Counter[tuple[str, str]],
) -> None:
    try:
        conversion.convert(text)
    except UnfitError as error:
        unfit[name, str(error)] += 1
        return
    loss = conversion.loss(text)
    if loss is not None:
        losses[name, loss] += 1


def _odd(value: Expression, plain: str) -> Expression:
    test = _PLAIN.get(plain)
    there = value.is_not(None)
    return there if test is None else sa.and_(there, sa.not_(test(value)))


def _finite_real(value: Expression) -> Expression:
    text = sa.cast(value, sa.Text)
    is_negative_zero = sa.and_(value == sa.literal_column("0"), text == sa.literal_column("'-0'"))
    odd: list[Expression] = [sa.literal_column(f"'{each}'") for each in ("NaN", "Infinity", "-Infinity")]
    return sa.not_(sa.or_(value.in_(odd), is_negative_zero))


def _finite_time(value: Expression) -> Expression:
    year = sa.func.date_part(sa.literal_column("'year'"), value)
    return sa.and_(sa.func.isfinite(value), year.between(sa.literal_column("1"), sa.literal_column("9999")))


_PLAIN: Mapping[str, Callable[[Expression], Expression]] = {
    "finite real": _finite_real,
    "finite time": _finite_time,
}


def read_lines(
    session: Session, dialect: sa.Dialect, step: CopyStep, columns: Sequence[str]
) -> Iterator[bytes | memoryview]:
    """Give the rows of a step as the server spells them. Reads only; psycopg's errors."""
    chosen = sa.select(*(value_of(step, name) for name in columns)).select_from(rows_of(step))
    yield from copy_out(session, f"COPY ({spell(session, dialect, chosen)}) TO STDOUT (FORMAT text)")

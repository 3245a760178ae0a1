"""Rows for another engine, as the server's own text; and what of them SQL can tell to be plain."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import CopyStep, rows_of, value_of
from panicdb.backends.conversions import NULLS, Conversion, Survey, UnfitError
from panicdb.backends.postgresql.rows import copy_out, read_rows, spell
from panicdb.backends.postgresql.sessions import Session

Expression = sa.ColumnElement[Any]


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
    for name, conversion in conversions.items():
        value = value_of(step, name)
        if name in required:
            one: Expression = sa.literal_column("1")
            nulls = sa.select(one).select_from(rows_of(step)).where(value.is_(None))
            unfit[name, NULLS] += sum(1 for _ in read_rows(session, dialect, nulls))
        if conversion.plain == "any":
            continue
        odd = sa.select(value).select_from(rows_of(step)).where(_odd(value, conversion.plain))
        for (text,) in read_rows(session, dialect, odd):
            _judge(name, conversion, text, unfit, losses)
    return Survey({key: count for key, count in unfit.items() if count}, dict(losses))


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
    return text.not_in([sa.literal_column(f"'{each}'") for each in ("NaN", "Infinity", "-Infinity", "-0")])


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

"""The export as applications write it first, and as the reference application had it.

    python bench/orm.py SOURCE TARGET

It loads all rows as objects, asks for children with IN (all ids), makes the target with create_all
and commits per table. To be fair it adds new objects; merging them would ask for each row first.
"""

import os
import sys
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from panicdb.experiments import (
    Base,
    Embedding,
    ExperimentConfig,
    Invocation,
    PersistenceDiagram,
    Run,
)


def copy_all(source: str, target: str) -> None:
    read_from, write_to = (sa.create_engine(f"sqlite:///{file}") for file in (source, target))
    Base.metadata.create_all(write_to)
    with Session(read_from) as reader, Session(write_to) as writer:
        chosen = list(reader.scalars(sa.select(ExperimentConfig.id)))
        copied(reader, writer, ExperimentConfig, ExperimentConfig.id.in_(chosen))
        runs = copied(reader, writer, Run, Run.experiment_id.in_(chosen))
        invocations = copied(reader, writer, Invocation, Invocation.run_id.in_(runs))
        copied(reader, writer, Embedding, Embedding.invocation_id.in_(invocations))
        copied(reader, writer, PersistenceDiagram, PersistenceDiagram.run_id.in_(runs))


def copied(reader: Session, writer: Session, model: type[Base], wanted: sa.ColumnElement[bool]) -> list[UUID]:
    rows = reader.scalars(sa.select(model).where(wanted)).all()
    names = [column.key for column in sa.inspect(model).column_attrs]
    writer.add_all(model(**{name: getattr(row, name) for name in names}) for row in rows)
    writer.commit()
    return [row.id for row in rows]


def sync(written: str) -> None:
    descriptor = os.open(written, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    copy_all(*sys.argv[1:])
    sync(sys.argv[2])

"""The bundled PANIC-TDA schema: its models, and sample data of any size.

An experiment owns runs. A run is a chain of invocations, each fed with what the one before put
out, an image and a text in turn. Embeddings and persistence diagrams are computed from those.
"""

import random
import uuid
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Every constraint has a name, because SQLite's batch mode can only change what it can name.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """What the bundled models share; `Base.metadata` is the schema at head."""

    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)


class ExperimentConfig(Base):
    """What was asked for: networks, seeds and prompts, each combination of which is a run."""

    __tablename__ = "experimentconfig"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    networks: Mapped[list[list[str]]] = mapped_column(sa.JSON)
    seeds: Mapped[list[int]] = mapped_column(sa.JSON)
    prompts: Mapped[list[str]] = mapped_column(sa.JSON)
    embedding_models: Mapped[list[str]] = mapped_column(sa.JSON)
    max_length: Mapped[int]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class Run(Base):
    """One network, seed and prompt, followed for `max_length` invocations."""

    __tablename__ = "run"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    network: Mapped[list[str]] = mapped_column(sa.JSON)
    seed: Mapped[int]
    max_length: Mapped[int]
    initial_prompt: Mapped[str] = mapped_column(server_default=sa.text("''"))
    experiment_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("experimentconfig.id"), index=True)


class Invocation(Base):
    """One call of a model; `type` is IMAGE or TEXT and tells which output is filled."""

    __tablename__ = "invocation"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    model: Mapped[str]
    type: Mapped[str] = mapped_column(sa.String(5))
    seed: Mapped[int]
    run_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("run.id"), index=True)
    sequence_number: Mapped[int] = mapped_column(server_default=sa.text("0"))
    input_invocation_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("invocation.id"), index=True)
    output_text: Mapped[str | None]
    output_image_data: Mapped[bytes | None]


class Embedding(Base):
    """An invocation's output as a vector of one embedding model."""

    __tablename__ = "embedding"
    __table_args__ = (sa.UniqueConstraint("invocation_id", "embedding_model"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    invocation_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("invocation.id"), index=True)
    embedding_model: Mapped[str]
    vector: Mapped[bytes]


class PersistenceDiagram(Base):
    """The topology of a run's embeddings by one model."""

    __tablename__ = "persistencediagram"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    diagram_data: Mapped[bytes | None]
    run_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("run.id"), index=True)
    embedding_model: Mapped[str]


def fill(
    bind: sa.Engine | sa.Connection,
    *,
    experiments: int,
    runs: int,
    invocations: int,
    embeddings: int = 2,
    image_bytes: tuple[int, int] = (20_000, 60_000),
    vector_bytes: int = 3_000,
    seed: int = 0,
) -> list[str]:
    """Write sample data into the bundled tables; return the experiments' ids as 32 hex digits.

    `runs` counts per experiment, `invocations` per run, `embeddings` per invocation; every run has
    one diagram for each embedding model. `image_bytes` are the least and the largest size of an
    image, both included. The same arguments write the same rows. The last experiment is still
    running: it has no `completed_at`.

    With an engine all rows are written in one transaction of their own; with a connection they
    join its transaction, and the caller commits. Memory use does not grow with the row counts.
    Raises sqlalchemy.exc.DBAPIError where the tables are missing or refuse the rows.
    """
    shape = _Shape(experiments, runs, invocations, _embedding_models(embeddings), image_bytes, vector_bytes)
    sample = _Sample(shape, random.Random(seed))  # noqa: S311 - repeatable, not secret
    with bind.begin() if isinstance(bind, sa.Engine) else nullcontext(bind) as connection:
        return [_write_experiment(connection, sample, n)["id"].hex for n in range(experiments)]


_Row = dict[str, Any]

_CHUNK_ROWS = 200  # some 4 MB of images at a time; larger chunks are no faster
_PROMPTS_PER_EXPERIMENT = 4
_FIRST_DAY = datetime(2025, 7, 1, 9)  # noqa: DTZ001 - the columns hold UTC without saying so
_NETWORKS = (("FluxSchnell", "Moondream"), ("SDXLTurbo", "BLIP2"), ("FluxDev", "Moondream"))
_EMBEDDING_MODELS = ("Nomic", "JinaClip", "STSBMpnet", "STSBRoberta", "STSBDistilRoberta")
_SUBJECTS = (
    "a red bicycle",
    "two herons",
    "an old lighthouse",
    "a bowl of oranges",
    "the night train",
    "a paper boat",
    "my neighbour's cat",
    "a choir of robots",
)
_PLACES = (
    "by a frozen lake",
    "in an empty museum",
    "under the bridge",
    "on a kitchen table",
    "at the edge of a forest",
    "in the rain",
)
_STYLES = (
    "oil on canvas",
    "35 mm photograph",
    "pencil sketch",
    "woodcut",
    "watercolour, café light",
    "long exposure",
)


@dataclass(frozen=True)
class _Shape:
    experiments: int
    runs: int
    invocations: int
    embedding_models: tuple[str, ...]
    image_bytes: tuple[int, int]
    vector_bytes: int


@dataclass(frozen=True)
class _Sample:
    """Makes rows; consumes its random numbers in the order in which rows are asked for."""

    shape: _Shape
    numbers: random.Random

    def new_id(self) -> uuid.UUID:
        return uuid.UUID(int=self.numbers.getrandbits(128), version=4)

    def prompt(self) -> str:
        choose = self.numbers.choice
        return f"{choose(_SUBJECTS)} {choose(_PLACES)}, {choose(_STYLES)}"

    def image(self) -> bytes:
        return self.numbers.randbytes(self.numbers.randint(*self.shape.image_bytes))

    def experiment(self, number: int) -> _Row:
        prompts = [self.prompt() for _ in range(_PROMPTS_PER_EXPERIMENT)]
        started = _FIRST_DAY + timedelta(days=number)
        running = number == self.shape.experiments - 1
        return {
            "id": self.new_id(),
            "networks": [list(_NETWORKS[number % len(_NETWORKS)])],
            "seeds": list(range(-(-self.shape.runs // len(prompts)))),
            "prompts": prompts,
            "embedding_models": list(self.shape.embedding_models),
            "max_length": self.shape.invocations,
            "started_at": started,
            "completed_at": None if running else started + timedelta(hours=20),
        }

    def runs(self, experiment: _Row) -> Iterator[_Row]:
        prompts = experiment["prompts"]
        for number in range(self.shape.runs):
            yield {
                "id": self.new_id(),
                "network": experiment["networks"][0],
                "seed": number // len(prompts),
                "max_length": self.shape.invocations,
                "initial_prompt": prompts[number % len(prompts)],
                "experiment_id": experiment["id"],
            }

    def invocations(self, run: _Row, ids: list[uuid.UUID], started: datetime) -> Iterator[_Row]:
        image_model, text_model = run["network"]
        for number, (own, before) in enumerate(zip(ids, [None, *ids], strict=False)):
            is_image = number % 2 == 0
            yield {
                "id": own,
                **_moments(started, number),
                "model": image_model if is_image else text_model,
                "type": "IMAGE" if is_image else "TEXT",
                "seed": run["seed"],
                "run_id": run["id"],
                "sequence_number": number,
                "input_invocation_id": before,
                "output_text": None if is_image else f"The picture shows {self.prompt()}.",
                "output_image_data": self.image() if is_image else None,
            }

    def embeddings(self, ids: list[uuid.UUID], started: datetime) -> Iterator[_Row]:
        for number, invocation in enumerate(ids):
            for model in self.shape.embedding_models:
                yield {
                    "id": self.new_id(),
                    **_moments(started, number),
                    "invocation_id": invocation,
                    "embedding_model": model,
                    "vector": self.numbers.randbytes(self.shape.vector_bytes),
                }

    def diagrams(self, run: _Row, started: datetime) -> Iterator[_Row]:
        for number, model in enumerate(self.shape.embedding_models):
            yield {
                "id": self.new_id(),
                **_moments(started, number),
                "diagram_data": self.numbers.randbytes(2 * self.shape.vector_bytes),
                "run_id": run["id"],
                "embedding_model": model,
            }


def _embedding_models(count: int) -> tuple[str, ...]:
    further = (f"Sentence{n}" for n in range(len(_EMBEDDING_MODELS), count))
    return (*_EMBEDDING_MODELS[:count], *further)


def _moments(started: datetime, number: int) -> _Row:
    begin = started + timedelta(seconds=1.373 * number)
    return {"started_at": begin, "completed_at": begin + timedelta(seconds=1.25)}


def _write_experiment(connection: sa.Connection, sample: _Sample, number: int) -> _Row:
    experiment = sample.experiment(number)
    _insert(connection, ExperimentConfig, [experiment])
    for run in sample.runs(experiment):
        _write_run(connection, sample, run, experiment["started_at"])
    return experiment


def _write_run(connection: sa.Connection, sample: _Sample, run: _Row, started: datetime) -> None:
    ids = [sample.new_id() for _ in range(sample.shape.invocations)]
    _insert(connection, Run, [run])
    _insert(connection, Invocation, sample.invocations(run, ids, started))
    _insert(connection, Embedding, sample.embeddings(ids, started))
    _insert(connection, PersistenceDiagram, sample.diagrams(run, started))


def _insert(connection: sa.Connection, model: type[Base], rows: Iterable[_Row]) -> None:
    statement = sa.insert(Base.metadata.tables[model.__tablename__])
    waiting = iter(rows)
    while chunk := list(islice(waiting, _CHUNK_ROWS)):
        connection.execute(statement, chunk)

"""Shape N by a history of its own: the tables that a migration of `histories` makes, on either engine."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

CONFIG = Path(__file__).resolve().parent / "histories" / "narrow.ini"


def create(target: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{target}")
    settings = Config(str(CONFIG))
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.commit()
    engine.dispose()

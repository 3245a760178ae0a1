"""A process that writes to a SQLite file without a pause, and keeps what it writes true at every commit.

As a script: PATH TIMEOUT LOG. It prints a line once it writes, ends at SIGTERM, and leaves in LOG when each of its
transactions began and ended. An error ends it, "database is locked" included.
"""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

OWNERS = 8
AMOUNT = 1_000
KEPT_ENTRIES = 400
"""The writer deletes older ones, so that the source does not grow."""

SCHEMA = f"""
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE current (
    id INTEGER PRIMARY KEY, owner_id INTEGER NOT NULL REFERENCES owner, amount INTEGER NOT NULL, last_entry INTEGER
);
CREATE TABLE savings (id INTEGER PRIMARY KEY, owner_id INTEGER NOT NULL REFERENCES owner, amount INTEGER NOT NULL);
CREATE TABLE entry (id INTEGER PRIMARY KEY, current_id INTEGER NOT NULL REFERENCES current, moved INTEGER NOT NULL);
CREATE TABLE half (id INTEGER PRIMARY KEY, entry_id INTEGER NOT NULL REFERENCES entry, amount INTEGER NOT NULL);
CREATE TABLE paper (id INTEGER PRIMARY KEY, owner_id INTEGER NOT NULL REFERENCES owner, scan BLOB);
CREATE INDEX entry_current ON entry (current_id);
CREATE INDEX half_entry ON half (entry_id);
CREATE INDEX paper_owner ON paper (owner_id);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OWNERS})
INSERT INTO owner SELECT i, 'owner ' || i FROM n;
INSERT INTO current SELECT id, id, {AMOUNT}, NULL FROM owner;
INSERT INTO savings SELECT id, id, {AMOUNT} FROM owner;
"""
PAPERS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :papers)
INSERT INTO paper SELECT i, 1 + i % :owners, randomblob(20000) FROM n
"""
LIES = {
    "an owner's accounts do not hold what they held together": f"""
        SELECT owner.id FROM owner LEFT JOIN current ON current.owner_id = owner.id
        LEFT JOIN savings ON savings.owner_id = owner.id
        WHERE current.amount + savings.amount IS NOT {2 * AMOUNT}
    """,
    "an account's last entry is another": """
        SELECT id FROM current WHERE last_entry IS NOT (SELECT max(id) FROM entry WHERE current_id = current.id)
    """,
    "an entry has not its two halves": """
        SELECT entry.id FROM entry LEFT JOIN half ON half.entry_id = entry.id
        GROUP BY entry.id HAVING count(half.id) <> 2 OR sum(half.amount) <> 0 OR max(half.amount) <> entry.moved
    """,
    "a half has no entry": "SELECT id FROM half WHERE entry_id NOT IN (SELECT id FROM entry)",
}
"""Queries that find nothing at any one moment of the source, nor in a subset of its owners."""


def make_source(path: Path, journal_mode: str, *, papers: int, settings: str = "") -> None:
    """Write a source; `papers` of 20 kB each give an export something to do. `settings` come first."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(settings)
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.executescript(SCHEMA)
        connection.execute(PAPERS, {"papers": papers, "owners": OWNERS})
        connection.commit()


def lies_in(path: Path) -> list[str]:
    """Say what in a copy was never true of the source, by plain SQL."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = {text: connection.execute(query).fetchall() for text, query in LIES.items()}
        assert connection.execute("SELECT count(*) FROM owner").fetchone() > (0,)
    return [f"{text}: {rows[:5]}" for text, rows in found.items() if rows]


def move(connection: sqlite3.Connection, number: int, chance: random.Random) -> None:
    """Make one transaction: money moves from one table to another, and an entry with two halves says so."""
    owner, amount = chance.randint(1, OWNERS), chance.randint(1, 100)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "UPDATE current SET amount = amount - ?, last_entry = ? WHERE id = ?", (amount, number, owner)
    )
    connection.execute("INSERT INTO entry VALUES (?, ?, ?)", (number, owner, amount))
    connection.execute("INSERT INTO half (entry_id, amount) VALUES (?, ?)", (number, amount))
    connection.execute("UPDATE savings SET amount = amount + ? WHERE id = ?", (amount, owner))
    connection.execute("DELETE FROM half WHERE entry_id = ?", (number - KEPT_ENTRIES,))
    connection.execute("DELETE FROM entry WHERE id = ?", (number - KEPT_ENTRIES,))
    connection.execute("INSERT INTO half (entry_id, amount) VALUES (?, ?)", (number, -amount))
    connection.execute("COMMIT")


@dataclass
class Writer:
    """A running writer; afterwards what it did."""

    process: subprocess.Popen
    log: Path
    times: array = field(default_factory=lambda: array("d"))
    """Begin and end of each transaction, by turns, on the monotonic clock."""

    def stop(self) -> None:
        """End it. Whatever it complains of fails the test."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        assert (self.process.returncode, said) == (0, ""), said
        self.times.frombytes(self.log.read_bytes())

    def commits(self, began: float, ended: float) -> int:
        """Count the transactions that ended in a span of time."""
        return sum(began <= moment < ended for moment in self.times[1::2])

    def waits(self) -> list[float]:
        """Return how long each transaction took."""
        return [ended - began for began, ended in zip(self.times[::2], self.times[1::2], strict=True)]


@contextmanager
def writing(path: Path, *, timeout: float) -> Iterator[Writer]:
    """Let a writer write to `path`; `timeout` is how long it waits for locks, in seconds: 0 for not at all."""
    log = path.with_name("writer.log")
    command = [sys.executable, __file__, str(path), str(timeout), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    writer = Writer(process, log)
    try:
        assert process.stdout.readline() == "writing\n", process.stderr.read()
        yield writer
        writer.stop()
    finally:
        process.kill()
        process.communicate()


def main(path: str, timeout: str, log: str) -> None:
    """Be the writer."""
    going = True

    def stop(_number: int, _frame: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    times, chance = array("d"), random.Random(3)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=float(timeout))) as connection:
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()
        for number in count(last + 1):
            if not going:
                break
            began = time.monotonic()
            move(connection, number, chance)
            times.extend((began, time.monotonic()))
            if number == last + 1:
                print("writing", flush=True)
    Path(log).write_bytes(times.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])

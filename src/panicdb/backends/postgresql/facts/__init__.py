"""A PostgreSQL schema as facts, from the system catalogs: a fixed number of queries, however large it is.

Left out are the system's objects, those of extensions (the extension itself is a fact), and what comes with another
object by itself: the index behind a constraint, types of rows and arrays, what a partition has from its parent.
Owners, privileges and tablespaces are no part of a schema here.
"""

from itertools import chain

import sqlalchemy as sa

from panicdb.backends.postgresql.facts.constraints import read_constraints
from panicdb.backends.postgresql.facts.domains import Sequences, read_types
from panicdb.backends.postgresql.facts.kinds import read_kinds
from panicdb.backends.postgresql.facts.records import Records
from panicdb.backends.postgresql.facts.relations import Relations
from panicdb.backends.postgresql.facts.things import numbered
from panicdb.values import Facts


def read_facts(connection: sa.Connection) -> Facts:
    """Return every fact of the connection's database. Reads only its catalogs.

    For one consistent answer, call it inside a transaction that keeps its snapshot. The session's search_path must be
    empty, so that every name is told with its schema, and its settings of dates and quotes those of any other session
    whose facts are compared with these.
    """
    records = Records(connection)
    relations = Relations(records)
    sequences = Sequences(records)
    things = chain(
        relations.things(sequences.calls()),
        read_constraints(records, relations),
        read_types(records, relations),
        sequences.things(relations),
        read_kinds(records, relations),
    )
    return {(each.name, aspect): fact for each in numbered(things) for aspect, fact in each.facts.items()}

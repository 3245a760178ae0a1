"""Tables, views and their columns, as facts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from panicdb.backends.postgresql.facts import expressions
from panicdb.backends.postgresql.facts.demands import type_demands
from panicdb.backends.postgresql.facts.records import Record, Records, users
from panicdb.backends.postgresql.facts.things import Thing, fact, label, listed, thing, unusual
from panicdb.values import Fact, quote_name

BARE_VIEWS_SINCE = 16
"""The first version that prints the columns of a view's only table without its name."""

_NO_EXTENSION = """NOT EXISTS (
    SELECT FROM pg_depend e
    WHERE e.deptype = 'e' AND e.classid = CAST('pg_class' AS regclass) AND e.objid = c.oid)"""
_RELATIONS = f"""
SELECT c.oid, c.reltype AS type, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
    c.relpersistence AS persistence, c.relreplident AS replica,
    c.relrowsecurity AS secured, c.relforcerowsecurity AS forced,
    c.reloptions AS options, x.reloptions AS toast, m.amname AS method,
    CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS typed,
    CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
    CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS bounds,
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
    ARRAY(SELECT json_build_array(o.nspname, p.relname) FROM pg_inherits i
          JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace o ON o.oid = p.relnamespace
          WHERE i.inhrelid = c.oid ORDER BY i.inhseqno) AS parents,
    ARRAY(SELECT a.attname FROM pg_index i, unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (number, place)
          JOIN pg_attribute a ON a.attnum = k.number
          WHERE i.indrelid = c.oid AND i.indisreplident AND a.attrelid = c.oid
          ORDER BY k.place) AS replica_columns,
    f.ftoptions AS foreign_options, s.srvname AS server
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class x ON x.oid = c.reltoastrelid
LEFT JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {users("n")} AND {_NO_EXTENSION}
"""
_COLUMNS = f"""
SELECT a.attrelid AS relation, a.attnum AS number, a.attname AS name, quote_ident(a.attname) AS spelled,
    format_type(a.atttypid, a.atttypmod) AS type, t.typtype = 'd' AS of_domain,
    a.attnotnull AS not_null, v.convalidated AS not_null_valid, v.connoinherit AS not_null_alone,
    a.attidentity AS identity, a.attgenerated AS generated,
    pg_get_expr(d.adbin, d.adrelid) AS expression,
    CASE WHEN a.attcollation <> t.typcollation THEN l.collname END AS collation, k.nspname AS collation_schema,
    coalesce(l.collisdeterministic, true) AS deterministic,
    CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END AS storage,
    nullif(CAST(a.attcompression AS text), '') AS compression, nullif(a.attstattarget, -1) AS statistics,
    a.attoptions AS options, a.attfdwoptions AS foreign_options
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_constraint v ON v.conrelid = a.attrelid AND v.contype = 'n' AND v.conkey = ARRAY[a.attnum]
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_namespace k ON k.oid = l.collnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {users("n")}
ORDER BY a.attrelid, a.attnum
"""
_DOMAINS = """
SELECT format_type(t.oid, NULL) AS name, format_type(t.typbasetype, t.typtypmod) AS base
FROM pg_type t WHERE t.typtype = 'd'
"""
_USUAL_TABLE = {
    "persistence": "permanent",
    "row security": "disabled, not for the owner",
    "options": "(none)",
    "access method": "heap",
    "replica identity": "DEFAULT",
    "of type": "(none)",
    "inherits": "(none)",
    "partition key": "(none)",
    "defaults": "(none)",
}
_USUAL_COLUMN = {
    "identity": "(no)",
    "collation": "default",
    "storage": "default",
    "compression": "default",
    "statistics": "default",
    "options": "(none)",
}
_KINDS = {
    "r": "table",
    "p": "table",
    "f": "foreign table",
    "v": "view",
    "m": "materialized view",
    "c": "type",
}
_TABLES = frozenset({"r", "p", "f"})
_VIEWS = frozenset({"v", "m"})
_PERSISTENCE = {"p": "permanent", "u": "UNLOGGED", "t": "TEMPORARY"}
_REPLICA = {"d": "DEFAULT", "n": "NOTHING", "f": "FULL"}
_IDENTITY = {"": "(no)", "a": "ALWAYS", "d": "BY DEFAULT"}
_GENERATED = {"s": "STORED", "v": "VIRTUAL"}
_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}


@dataclass(frozen=True)
class Relation:
    """A table, a view or a composite type with its columns."""

    row: Record
    columns: Sequence[Record]

    @property
    def oid(self) -> str:
        """What other catalogs know it by."""
        return str(self.row["oid"])

    @cached_property
    def label(self) -> str:
        """Its name in facts."""
        return label(self.row["schema"], self.row["name"])

    @property
    def thing(self) -> str:
        """What holds its columns and constraints."""
        return f"{_KINDS[self.row['kind']]} {self.label}"

    @cached_property
    def textual(self) -> frozenset[str]:
        """Columns, as the server spells them, that are text or varchar."""
        plain = ("text", "character varying")
        return frozenset(each["spelled"] for each in self.columns if each["type"].partition("(")[0] in plain)

    @cached_property
    def required(self) -> frozenset[str]:
        """Columns, as the server spells them, that are never NULL."""
        return frozenset(each["spelled"] for each in self.columns if each["not_null"])

    def column_label(self, name: str) -> str:
        """Name a column in facts."""
        return f"{self.label}.{quote_name(name)}"

    def listing(self, parts: Sequence[str]) -> str:
        """Spell some of its columns with its name."""
        return f"{self.label}({', '.join(parts)})"


class Relations:
    """All relations of one database, by oid. Reads only."""

    def __init__(self, records: Records) -> None:
        self._records = records
        columns: defaultdict[str, list[Record]] = defaultdict(list)
        for row in records.read(_COLUMNS):
            columns[row["relation"]].append(row)
        self._by_oid = {row["oid"]: Relation(row, columns[row["oid"]]) for row in records.read(_RELATIONS)}
        self._domains = {row["name"]: row["base"] for row in records.read(_DOMAINS)}

    def find(self, oid: str) -> Relation | None:
        """Return a relation; None if it is the system's or an extension's."""
        return self._by_oid.get(oid)

    def demands(self, what: str, kind: str) -> frozenset[str]:
        """Return what a type demands of values of a column, or of a domain."""
        return type_demands(what, kind, self._domains)

    def things(self, own_sequences: Mapping[tuple[str, int], Sequence[str]]) -> Iterator[Thing]:
        """Yield tables, views and composite types; `own_sequences`: calls of nextval() for what a column owns."""
        for relation in self._by_oid.values():
            comment = self._records.comment("pg_class", relation.oid)
            if relation.row["kind"] in _TABLES:
                yield thing(relation.thing, _table(relation) | comment, within=_whole(relation))
                for column in relation.columns:
                    calls = own_sequences.get((relation.oid, column["number"]), ())
                    yield self._column(relation, column, calls)
            elif relation.row["kind"] in _VIEWS:
                facts = _view(relation, prefixed=self._records.version < BARE_VIEWS_SINCE)
                yield thing(relation.thing, facts | comment | self._column_comments(relation))
            else:
                comment = self._records.comment("pg_type", relation.row["type"])
                yield _composite(relation, {**comment, **self._column_comments(relation)})

    def _column(self, relation: Relation, column: Record, calls: Sequence[str]) -> Thing:
        name = relation.column_label(column["name"])
        facts = {
            "type": Fact(column["type"], demands=self.demands(name, column["type"])),
            "nullability": _nullability(name, column),
            "default": _default(column, calls),
            "identity": fact(_IDENTITY[column["identity"]]),
            "generated": _generated(name, column, relation),
            "collation": _collation(name, column),
            "storage": fact(_STORAGE.get(column["storage"], "default")),
            "compression": fact(_COMPRESSION.get(column["compression"], "default")),
            "statistics": fact("default" if column["statistics"] is None else str(column["statistics"])),
            "options": fact(listed(column["options"])),
        }
        if relation.row["kind"] == "f":
            facts["foreign options"] = options(column["foreign_options"])
        facts = unusual(facts, _USUAL_COLUMN) | self._records.comment(
            "pg_class", relation.oid, column["number"]
        )
        filled = column["identity"] or column["generated"] or column["expression"] is not None
        needed = column["not_null"] and not filled
        return thing(
            f"column {name}", facts, within=relation.thing, demands={f"value {name}"} if needed else ()
        )

    def _column_comments(self, relation: Relation) -> dict[str, Fact]:
        return {
            f"comment on {quote_name(column['name'])}": found
            for column in relation.columns
            for found in self._records.comment("pg_class", relation.oid, column["number"]).values()
        }


def options(given: Sequence[str] | None) -> Fact:
    """Make a fact of a foreign object's options, which may hold secrets: only their names are shown."""
    return fact(listed(given), shown=listed({each.partition("=")[0] for each in given or ()}))


def _whole(relation: Relation) -> str | None:
    """A partition is missing with what it is part of."""
    return f"table {label(*relation.row['parents'][0])}" if relation.row["bounds"] else None


def _table(relation: Relation) -> dict[str, Fact]:
    row, named = relation.row, relation.label
    toast = [f"toast.{each}" for each in row["toast"] or ()]
    parents = [label(*parent) for parent in row["parents"]]
    key, bounds = row["partition_key"], row["bounds"]
    facts = {
        "column order": Fact(tuple(quote_name(column["name"]) for column in relation.columns)),
        "persistence": fact(_PERSISTENCE[row["persistence"]]),
        "row security": fact(("enabled, " if row["secured"] else "disabled, ") + _forced(row)),
        "options": fact(listed([*(row["options"] or ()), *toast])),
        "access method": fact(row["method"] or "heap"),
        "replica identity": fact(_REPLICA.get(row["replica"]) or listed_in_order(row["replica_columns"])),
        "of type": fact(row["typed"] or "(none)"),
        "inherits": fact("(none)" if bounds else ", ".join(parents) or "(none)"),
        "partition key": fact(key, f"partitioned {named} {key}") if key else fact("(none)"),
        "partition of": fact(f"{parents[0]} {bounds}", f"bounds {named} {bounds}")
        if bounds
        else fact("(none)", f"whole {named}"),
    }
    if row["kind"] == "f":
        facts |= {"server": fact(row["server"]), "foreign options": options(row["foreign_options"])}
    return unusual(facts, _USUAL_TABLE)


def listed_in_order(names: Sequence[str]) -> str:
    """Spell columns of a key that may be gone."""
    return ", ".join(map(quote_name, names)) or "NOTHING"


def _forced(row: Record) -> str:
    return "for the owner too" if row["forced"] else "not for the owner"


def _view(relation: Relation, *, prefixed: bool) -> dict[str, Fact]:
    defaults = [
        f"{quote_name(column['name'])} = {expressions.default(column['expression'], column['type'])}"
        for column in relation.columns
        if column["expression"] is not None
    ]
    definition = expressions.query(relation.row["definition"] or "", prefixed=prefixed)
    typed = [f"{quote_name(column['name'])} {column['type']}" for column in relation.columns]
    facts = {
        "definition": fact(definition),
        "column list": fact(", ".join(typed)),
        "options": fact(listed(relation.row["options"])),
        "access method": fact(relation.row["method"] or "heap"),
        "defaults": fact(listed(defaults)),
    }
    return unusual(facts, _USUAL_TABLE)


def _composite(relation: Relation, comments: Mapping[str, Fact]) -> Thing:
    parts = [
        f"{quote_name(each['name'])} {each['type']}{collated(each['collation_schema'], each['collation'])}"
        for each in relation.columns
    ]
    attributes = ", ".join(parts)
    demand = f"attributes {relation.label} {attributes}"
    return thing(
        relation.thing, {"kind": fact("composite"), "attributes": fact(attributes, demand), **comments}
    )


def collated(schema: str | None, name: str | None) -> str:
    """Spell a collation where it is not the type's own."""
    return "" if name is None else f" COLLATE {_collation_name(schema, name)}"


def _collation_name(schema: str | None, name: str) -> str:
    return quote_name(name) if schema in {None, "pg_catalog"} else label(schema or "", name)


def _nullability(name: str, column: Record) -> Fact:
    """Rows that were there before may be NULL where the constraint was never validated (PostgreSQL 18)."""
    if not column["not_null"]:
        return fact("nullable")
    alone = " NO INHERIT" if column["not_null_alone"] else ""
    if column["not_null_valid"] is False:
        return fact(f"NOT NULL NOT VALID{alone}", f"not null {name}")
    return fact(f"NOT NULL{alone}", f"not null {name}", f"validated not null {name}")


def _default(column: Record, calls: Sequence[str]) -> Fact:
    if column["generated"]:
        return fact("(none)")
    if len(calls) == 1 and column["expression"] == calls[0]:
        return fact("nextval(its own sequence)")
    return fact(expressions.default(column["expression"], column["type"], domain=column["of_domain"]))


def _generated(name: str, column: Record, relation: Relation) -> Fact:
    if not column["generated"]:
        return fact("(no)", f"plain {name}")
    spelling = expressions.expression(column["expression"] or "", relation.textual)
    return fact(f"AS ({spelling}) {_GENERATED[column['generated']]}", f"generated {name} {spelling}")


def _collation(name: str, column: Record) -> Fact:
    """Under a collation that is not deterministic, values are equal that others tell apart."""
    spelled = "default"
    if column["collation"] is not None:
        spelled = _collation_name(column["collation_schema"], column["collation"])
    return fact(spelled) if column["deterministic"] else fact(spelled, f"equality {name} {spelled}")

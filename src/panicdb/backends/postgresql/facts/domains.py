"""Types that users make, and sequences, as facts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from panicdb.backends.postgresql.facts import expressions
from panicdb.backends.postgresql.facts.constraints import validity, validity_demands
from panicdb.backends.postgresql.facts.records import Record, Records, own, users
from panicdb.backends.postgresql.facts.relations import Relations, collated
from panicdb.backends.postgresql.facts.things import Thing, fact, flag, label, thing
from panicdb.values import Fact, quote_name

_TYPES = f"""
SELECT t.oid, n.nspname AS schema, t.typname AS name, t.typtype AS kind, t.typisdefined AS defined,
    ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) AS labels,
    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END AS base,
    t.typnotnull AS not_null,
    CASE WHEN t.typtype = 'd' THEN coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault) END AS default,
    CASE WHEN t.typcollation <> b.typcollation OR r.rngcollation <> 0 THEN l.collname END AS collation,
    k.nspname AS collation_schema,
    format_type(r.rngsubtype, NULL) AS subtype, o.opcname AS opclass,
    nullif(CAST(r.rngcanonical AS text), '-') AS canonical, nullif(CAST(r.rngsubdiff AS text), '-') AS difference,
    CASE WHEN r.rngtypid IS NOT NULL THEN format_type(r.rngmultitypid, NULL) END AS multirange,
    CASE WHEN t.typtype = 'b' THEN json_build_object(
        'functions', concat_ws(' ', t.typinput, t.typoutput, t.typreceive, t.typsend, t.typanalyze),
        'length', CAST(t.typlen AS text), 'by value', CAST(t.typbyval AS text), 'alignment', t.typalign,
        'storage', t.typstorage, 'category', t.typcategory, 'delimiter', t.typdelim) END AS layout
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_opclass o ON o.oid = r.rngsubopc
LEFT JOIN pg_collation l ON l.oid = coalesce(r.rngcollation, t.typcollation)
LEFT JOIN pg_namespace k ON k.oid = l.collnamespace
WHERE t.typtype IN ('b', 'd', 'e', 'p', 'r') AND {users("n")} AND {own("pg_type", "t.oid")}
"""
_CHECKS = """
SELECT k.oid, k.contypid AS domain, k.conname AS name, k.convalidated AS valid, true AS enforced,
    pg_get_expr(k.conbin, 0) AS expression
FROM pg_constraint k WHERE k.contypid <> 0 AND k.contype = 'c'
"""
_SEQUENCES = f"""
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relpersistence = 'u' AS unlogged,
    format_type(s.seqtypid, NULL) AS type, s.seqstart AS start, s.seqincrement AS increment,
    s.seqmin AS minimum, s.seqmax AS maximum, s.seqcache AS cache, s.seqcycle AS cycle,
    'nextval(' || quote_literal(CAST(CAST(c.oid AS regclass) AS text)) || '::regclass)' AS call,
    w.refobjid AS relation, w.refobjsubid AS number, a.attname AS column
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN pg_depend w ON w.classid = CAST('pg_class' AS regclass) AND w.objid = c.oid AND w.objsubid = 0
    AND w.refclassid = CAST('pg_class' AS regclass) AND w.deptype IN ('a', 'i') AND w.refobjsubid > 0
LEFT JOIN pg_attribute a ON a.attrelid = w.refobjid AND a.attnum = w.refobjsubid
WHERE {users("n")} AND NOT EXISTS (
    SELECT FROM pg_depend e
    WHERE e.deptype = 'e' AND e.classid = CAST('pg_class' AS regclass) AND e.objid = c.oid)
"""
_PROPERTIES = ("type", "start", "increment", "minimum", "maximum", "cache")
Calls = Mapping[tuple[str, int], Sequence[str]]
"""Calls of nextval(), as the server spells them, for the sequences that a column owns."""


def read_types(records: Records, relations: Relations) -> Iterator[Thing]:
    """Yield enums with their labels, domains with their checks, ranges and base types."""
    names = {}
    for row in records.read(_TYPES):
        name = f"{'domain' if row['kind'] == 'd' else 'type'} {label(row['schema'], row['name'])}"
        names[row["oid"]] = name
        yield _type(name, row, records, relations)
        for each in row["labels"]:
            spelled = "'" + each.replace("'", "''") + "'"
            yield thing(f"label {spelled} of {label(row['schema'], row['name'])}", within=name)
    for row in records.read(_CHECKS):
        if row["domain"] in names:
            yield _check(row, names[row["domain"]], records)


def _type(name: str, row: Record, records: Records, relations: Relations) -> Thing:
    comment = records.comment("pg_type", row["oid"])
    kind, spelled = row["kind"], label(row["schema"], row["name"])
    if kind == "d":
        return _domain(name, row, relations, comment)
    if kind == "e":
        labels = tuple("'" + each.replace("'", "''") + "'" for each in row["labels"])
        facts = {"kind": fact("enum"), "order of labels": Fact(labels)}
    elif kind == "r":
        collation = collated(row["collation_schema"], row["collation"])
        facts = {
            "kind": fact("range"),
            "subtype": fact(f"{row['subtype']}{collation}", f"range {spelled} {row['subtype']}{collation}"),
            "operator class": fact(row["opclass"]),
            "canonical": fact(row["canonical"] or "(none)"),
            "difference": fact(row["difference"] or "(none)"),
            "multirange": fact(row["multirange"]),
        }
    elif row["defined"]:
        facts = {"kind": fact("base"), **{aspect: fact(value) for aspect, value in row["layout"].items()}}
    else:
        facts = {"kind": fact("shell")}
    return thing(name, {**facts, **comment})


def _domain(name: str, row: Record, relations: Relations, comment: Mapping[str, Fact]) -> Thing:
    collation = collated(row["collation_schema"], row["collation"])
    facts = {
        "type": Fact(row["base"], demands=relations.demands(name, row["base"])),
        "nullability": fact("NOT NULL", f"not null {name}") if row["not_null"] else fact("nullable"),
        "default": fact(expressions.default(row["default"], row["base"])),
        "collation": fact(collation.strip() or "default"),
    }
    return thing(name, {**facts, **comment})


def _check(row: Record, domain: str, records: Records) -> Thing:
    name = f"check {domain}: {expressions.expression(row['expression'])}"
    demands = validity_demands(row, name)
    facts = {"validity": fact(validity(row), *demands), "name": fact(quote_name(row["name"]))}
    comment = records.comment("pg_constraint", row["oid"])
    return thing(name, {**facts, **comment}, within=domain, demands=demands)


class Sequences:
    """All sequences of one database. Where each stands is no fact."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._rows = records.read(_SEQUENCES)

    def calls(self) -> Calls:
        """Return what columns call that have sequences of their own."""
        calls: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        for row in self._rows:
            if row["column"] is not None:
                calls[row["relation"], row["number"]].append(row["call"])
        return calls

    def things(self, relations: Relations) -> Iterator[Thing]:
        """Yield each; one that a column owns is called by that column, and has its own name as a fact."""
        for row in self._rows:
            facts = {aspect: fact(str(row[aspect])) for aspect in _PROPERTIES}
            facts |= {"cycle": flag(on=row["cycle"]), "unlogged": flag(on=row["unlogged"])}
            facts |= self._records.comment("pg_class", row["oid"])
            owner = relations.find(row["relation"]) if row["column"] is not None else None
            name = label(row["schema"], row["name"])
            if owner is None:
                yield thing(f"sequence {name}", facts)
            else:
                facts["name"] = fact(name)
                yield thing(f"sequence of {owner.column_label(row['column'])}", facts, within=owner.thing)

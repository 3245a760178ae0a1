"""Constraints and indexes, as facts: told apart by what they say, so that another name is only that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from panicdb.backends.postgresql.facts import expressions
from panicdb.backends.postgresql.facts.expressions import Group, Node, Token
from panicdb.backends.postgresql.facts.records import Record, Records, users
from panicdb.backends.postgresql.facts.relations import Relation, Relations
from panicdb.backends.postgresql.facts.things import Thing, columns, fact, flag, label, listed, thing, unusual
from panicdb.values import Fact, quote_name

ENFORCEMENT_SINCE = 18
"""The first version with constraints that are NOT ENFORCED, and with keys over periods."""

_INDEXES = f"""
SELECT i.indexrelid AS oid, i.indrelid AS relation, n.nspname AS schema, c.relname AS name,
    i.indisunique AS is_unique, i.indisvalid AND i.indisready AS valid, i.indisclustered AS clustered,
    i.indnullsnotdistinct AS nulls_alike, pg_get_indexdef(i.indexrelid) AS definition,
    ARRAY(SELECT a.attnum || ': ' || a.attstattarget FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attstattarget >= 0 ORDER BY a.attnum) AS statistics
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT c.relispartition AND {users("n")}
"""
_CONSTRAINTS = f"""
SELECT k.oid, k.conrelid AS relation, k.conname AS name, k.contype AS kind, k.conindid AS index,
    k.condeferrable AS deferrable, k.condeferred AS deferred, k.convalidated AS valid,
    k.connoinherit AS alone, {{enforced}} AS enforced, {{period}} AS period,
    pg_get_expr(k.conbin, k.conrelid) AS expression,
    CASE WHEN k.contype = 'x' THEN pg_get_constraintdef(k.oid) END AS definition,
    ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
          JOIN pg_attribute a ON a.attnum = u.number
          WHERE a.attrelid = k.conrelid ORDER BY u.place) AS columns,
    o.nspname AS parent_schema, p.relname AS parent,
    ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
          JOIN pg_attribute a ON a.attnum = u.number
          WHERE a.attrelid = k.confrelid ORDER BY u.place) AS parent_columns,
    ARRAY(SELECT a.attname FROM pg_attribute a
          WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.confdelsetcols) ORDER BY a.attnum) AS emptied,
    k.confupdtype AS on_update, k.confdeltype AS on_delete, k.confmatchtype AS match
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class p ON p.oid = k.confrelid LEFT JOIN pg_namespace o ON o.oid = p.relnamespace
WHERE k.contype IN ('p', 'u', 'f', 'c', 'x') AND k.conparentid = 0 AND k.coninhcount = 0 AND {users("n")}
"""
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
_MATCHES = {"s": "SIMPLE", "f": "FULL", "p": "PARTIAL"}
_USUAL = {
    "inherited": "yes",
    "match": "SIMPLE",
    "period": "no",
    "deferrable": "NOT DEFERRABLE",
    "without overlaps": "no",
    "clustered": "no",
    "include": "(none)",
    "nulls": "DISTINCT",
    "options": "(none)",
    "statistics": "(none)",
}
_DIRECTIONS = frozenset({"ASC", "DESC", "NULLS", "FIRST", "LAST"})


@dataclass(frozen=True)
class _Definition:
    """What pg_get_indexdef() says after USING."""

    method: str
    parts: tuple[str, ...]
    undirected: tuple[str, ...]
    include: str
    options: str
    where: str

    @property
    def shown(self) -> str:
        return ", ".join(self.parts)


def read_constraints(records: Records, relations: Relations) -> Iterator[Thing]:
    """Yield constraints of tables, and indexes that are behind none of them.

    What a partition or an heir has from its parent is left out.
    """
    since = records.version >= ENFORCEMENT_SINCE
    period = {"enforced": "k.conenforced", "period": "k.conperiod"} if since else {}
    indexes = {row["oid"]: row for row in records.read(_INDEXES)}
    behind = set()
    for row in records.read(_CONSTRAINTS.format(**{"enforced": "true", "period": "false", **period})):
        relation = relations.find(row["relation"])
        if row["kind"] in {"p", "u", "x"}:
            behind.add(row["index"])
        if relation is not None:
            comment = records.comment("pg_constraint", row["oid"])
            made = _constraint(row, relation, indexes.get(row["index"]))
            yield Thing(made.name, unusual(made.facts, _USUAL) | comment)
    for oid in indexes.keys() - behind:
        relation = relations.find(indexes[oid]["relation"])
        if relation is not None:
            comment = records.comment("pg_class", oid)
            made = _index(indexes[oid], relation)
            yield Thing(made.name, unusual(made.facts, _USUAL) | comment)


def validity(row: Record) -> str:
    """Say whether rows are checked, and were."""
    if not row["enforced"]:
        return "NOT ENFORCED"
    return "valid" if row["valid"] else "NOT VALID"


def validity_demands(row: Record, *demands: str) -> tuple[str, ...]:
    """Return what a constraint demands; of one that is not valid, rows that were there before may break it."""
    if not row["enforced"]:
        return ()
    return (*demands, *(f"validated {each}" for each in demands if row["valid"]))


def _constraint(row: Record, relation: Relation, index: Record | None) -> Thing:
    if row["kind"] == "f":
        return _foreign_key(row, relation)
    if row["kind"] == "c":
        return _check(row, relation)
    return _exclusion(row, relation, index) if row["kind"] == "x" else _key(row, relation, index)


def _named(row: Record) -> dict[str, Fact]:
    return {"name": fact(quote_name(row["name"]))}


def _deferrable(row: Record) -> dict[str, Fact]:
    words = "NOT DEFERRABLE"
    if row["deferrable"]:
        words = f"DEFERRABLE INITIALLY {'DEFERRED' if row['deferred'] else 'IMMEDIATE'}"
    return {"deferrable": fact(words)}


def _check(row: Record, relation: Relation) -> Thing:
    spelling = expressions.expression(row["expression"], relation.textual)
    name = f"check {relation.label}: {spelling}"
    demands = validity_demands(row, name)
    facts = {
        "validity": fact(validity(row), *demands),
        "inherited": flag(on=not row["alone"]),
        **_named(row),
    }
    return thing(name, facts, within=relation.thing, demands=demands)


def _foreign_key(row: Record, relation: Relation) -> Thing:
    parent = f"{label(row['parent_schema'], row['parent'])}({columns(row['parent_columns'])})"
    name = f"foreign key {relation.listing([columns(row['columns'])])} -> {parent}"
    full = () if row["match"] == "s" else (f"match {_MATCHES[row['match']]} {name}",)
    demands = validity_demands(row, name, *full)
    emptied = f" ({columns(row['emptied'])})" if row["emptied"] else ""
    facts = {
        "on update": fact(_ACTIONS[row["on_update"]]),
        "on delete": fact(_ACTIONS[row["on_delete"]] + emptied),
        "match": fact(_MATCHES[row["match"]], *demands),
        "validity": fact(validity(row), *demands),
        "period": flag(on=row["period"]),
        **_deferrable(row),
        **_named(row),
    }
    return thing(name, facts, within=relation.thing, demands=demands)


def _exclusion(row: Record, relation: Relation, index: Record | None) -> Thing:
    nodes = expressions.simplify(expressions.parse(row["definition"]), relation.textual)
    spelling = expressions.spell(_until(nodes, "DEFERRABLE"))
    name = f"exclusion {relation.label}: {spelling}"
    facts = {**_deferrable(row), **_named(row), **_index_state(index)}
    return thing(name, facts, within=relation.thing, demands=(name,))


def _until(nodes: Sequence[Node], word: str) -> Sequence[Node]:
    found = (at for at, node in enumerate(nodes) if isinstance(node, Token) and node.text == word)
    return nodes[: next(found, len(nodes))]


def _key(row: Record, relation: Relation, index: Record | None) -> Thing:
    defined = _define(index, relation)
    demands = _unique_demands(relation, defined, nulls_alike=_nulls_alike(index))
    facts = {
        "column list": fact(defined.shown, *demands),
        "include": fact(defined.include),
        "without overlaps": flag(on=row["period"]),
        **_deferrable(row),
        **_named(row),
        **_index_state(index),
        "options": fact(defined.options),
    }
    if row["kind"] == "p":
        return thing(f"primary key of {relation.label}", facts, within=relation.thing, demands=demands)
    facts["nulls"] = fact("NOT DISTINCT" if _nulls_alike(index) else "DISTINCT", *demands)
    listing = relation.listing([columns(row["columns"])])
    return thing(f"unique {listing}", facts, within=relation.thing, demands=demands)


def _nulls_alike(index: Record | None) -> bool:
    return bool(index and index["nulls_alike"])


def _index_state(index: Record | None) -> dict[str, Fact]:
    return {"clustered": flag(on=bool(index and index["clustered"]))}


def _unique_demands(
    relation: Relation, defined: _Definition, *, nulls_alike: bool, valid: bool = True
) -> tuple[str, ...]:
    """Whatever enforces it, the same uniqueness is the same demand; rows may break an index that is not valid."""
    nulls_alike = nulls_alike and not relation.required.issuperset(defined.undirected)
    demand = f"unique {relation.listing(sorted(defined.undirected))} {defined.where}"
    demands = (demand, f"{demand} nulls alike") if nulls_alike else (demand,)
    return (*demands, *(f"validated {each}" for each in demands if valid))


def _index(row: Record, relation: Relation) -> Thing:
    defined = _define(row, relation)
    demands: Iterable[str] = ()
    if row["is_unique"]:
        demands = _unique_demands(relation, defined, nulls_alike=row["nulls_alike"], valid=row["valid"])
    values = {
        "table": relation.label,
        "method": defined.method,
        "column list": defined.shown,
        "include": defined.include,
        "unique": "yes" if row["is_unique"] else "no",
        "nulls": "NOT DISTINCT" if row["nulls_alike"] else "DISTINCT",
        "where": defined.where or "(all rows)",
        "valid": "yes" if row["valid"] else "no",
    }
    plain = {
        "options": fact(defined.options),
        "statistics": fact(listed(row["statistics"])),
        **_index_state(row),
    }
    facts = {aspect: fact(value, *demands) for aspect, value in values.items()} | plain
    name = f"index {label(row['schema'], row['name'])}"
    return thing(name, facts, within=relation.thing, demands=demands)


def _define(index: Record | None, relation: Relation) -> _Definition:
    """Read the server's text: `... USING method (parts) INCLUDE (columns) NULLS NOT DISTINCT WITH (...) WHERE ...`."""
    text = "" if index is None else index["definition"] or ""
    nodes = expressions.simplify(expressions.parse(text), relation.textual)
    words = [node.text if isinstance(node, Token) else "" for node in nodes]
    start = words.index("USING") + 1 if "USING" in words else len(words)
    rest = nodes[start:]
    where = _after(rest, "WHERE")
    head = _until(rest, "WHERE")
    groups = _groups(head)
    parts = expressions.split(groups[""].nodes, ",") if "" in groups else []
    return _Definition(
        method=words[start] if start < len(words) else "?",
        parts=tuple(expressions.spell(part) for part in parts),
        undirected=tuple(expressions.spell(_undirected(part)) for part in parts),
        include=_inside(groups.get("INCLUDE")),
        options=_inside(groups.get("WITH")),
        where=expressions.expression(expressions.spell(where), relation.textual),
    )


def _after(nodes: Sequence[Node], word: str) -> Sequence[Node]:
    return nodes[len(_until(nodes, word)) + 1 :]


def _groups(head: Sequence[Node]) -> Mapping[str, Group]:
    """What stands in brackets, by the word before it; the key itself by none."""
    groups: dict[str, Group] = {}
    before = ""
    for node in head:
        if isinstance(node, Token):
            before = node.text
        else:
            groups.setdefault(before if groups else "", node)
    return groups


def _inside(group: Group | None) -> str:
    parts = expressions.split(group.nodes, ",") if group else []
    return listed(expressions.spell(part) for part in parts)


def _undirected(part: Sequence[Node]) -> Sequence[Node]:
    """The order of a key's part says nothing about what is unique."""
    end = len(part)
    while end and isinstance(node := part[end - 1], Token) and node.text in _DIRECTIONS:
        end -= 1
    return part[:end]

"""Further kinds of objects, a query each: functions, triggers, rules, policies, and what few databases have."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from panicdb.backends.postgresql.facts import expressions
from panicdb.backends.postgresql.facts.records import FIRST_OF_USERS, Record, Records, own, users
from panicdb.backends.postgresql.facts.relations import Relation, Relations, options
from panicdb.backends.postgresql.facts.things import Thing, fact, label, listed, thing
from panicdb.values import Fact, quote_name

Spelling = Callable[[str], str]


@dataclass(frozen=True)
class Kind:
    """A kind of object.

    `sql` yields `oid`, `name` (or `spelled`, which is not quoted), perhaps `schema`, `arguments` (what tells objects of
    one name apart), `relation` (the table that it belongs to), and `facts`: JSON, in which a list has no order.
    """

    name: str
    catalog: str
    sql: str
    spellings: Mapping[str, Spelling] = field(default_factory=dict)
    """How facts are spelled that are code."""
    secret: frozenset[str] = frozenset()
    """Facts that are options which may hold secrets."""


def read_kinds(records: Records, relations: Relations) -> Iterator[Thing]:
    """Yield all objects of the kinds below."""
    for kind in KINDS:
        for row in records.read(kind.sql):
            relation = relations.find(row["relation"]) if "relation" in row else None
            if relation is not None or "relation" not in row:
                facts = {
                    aspect: _fact(kind, aspect, value, relation)
                    for aspect, value in row["facts"].items()
                    if value is not None
                }
                comment = records.comment(kind.catalog, row["oid"])
                within = None if relation is None else relation.thing
                yield thing(_name(kind, row, relation), {**facts, **comment}, within=within)


def _name(kind: Kind, row: Record, relation: Relation | None) -> str:
    schema = row.get("schema")
    if "spelled" in row:
        name = row["spelled"]
    else:
        name = quote_name(row["name"]) if schema is None else label(schema, row["name"])
    table = "" if relation is None or schema is not None else f" on {relation.label}"
    return f"{kind.name} {name}{row.get('arguments') or ''}{table}"


def _fact(kind: Kind, aspect: str, value: Any, relation: Relation | None) -> Fact:
    if aspect in kind.secret:
        return options(value)
    if isinstance(value, list):
        return fact(listed(map(str, value)))
    if isinstance(value, bool):
        return fact("yes" if value else "no")
    spelling = kind.spellings.get(aspect)
    if spelling is expressions.expression:
        return fact(expressions.expression(str(value), relation.textual if relation else frozenset()))
    return fact(spelling(str(value)) if spelling else str(value))


_ENABLED = "CASE {} WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END"

_SCHEMAS = f"""
SELECT o.oid, o.nspname AS name, CAST('{{}}' AS json) AS facts FROM pg_namespace o
WHERE {users("o")} AND o.nspname <> 'public' AND {own("pg_namespace")}
"""
_EXTENSIONS = """
SELECT o.oid, o.extname AS name, json_build_object('extension version', o.extversion, 'schema', n.nspname) AS facts
FROM pg_extension o JOIN pg_namespace n ON n.oid = o.extnamespace WHERE o.extname <> 'plpgsql'
"""
_PROGRAM = """
SELECT o.oid, n.nspname AS schema, o.proname AS name, '(' || oidvectortypes(o.proargtypes) || ')' AS arguments,
    json_build_object(
        'arguments', pg_get_function_arguments(o.oid), 'result', pg_get_function_result(o.oid),
        'language', l.lanname, 'body', CASE WHEN o.prokind <> 'a' AND o.prosqlbody IS NULL THEN o.prosrc END,
        'SQL body', pg_get_function_sqlbody(o.oid), 'library', CAST(o.probin AS text),
        'volatility', CASE o.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
        'parallel', CASE o.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' ELSE 'UNSAFE' END,
        'strict', o.proisstrict, 'security definer', o.prosecdef, 'leakproof', o.proleakproof,
        'cost', CAST(o.procost AS text), 'rows', CAST(o.prorows AS text), 'window', o.prokind = 'w',
        'support', nullif(CAST(o.prosupport AS text), '-'), 'settings', coalesce(o.proconfig, '{{}}'),
        'transforms', ARRAY(SELECT format_type(t, NULL) FROM unnest(o.protrftypes) AS t){more}) AS facts
FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace JOIN pg_language l ON l.oid = o.prolang {join}
WHERE o.prokind IN ({kinds}) AND {users} AND {own}
"""
_FUNCTIONS = _PROGRAM.format(kinds="'f', 'w'", more="", join="", users=users("n"), own=own("pg_proc"))
_PROCEDURES = _PROGRAM.format(kinds="'p'", more="", join="", users=users("n"), own=own("pg_proc"))
_AGGREGATES = _PROGRAM.format(
    kinds="'a'",
    join="JOIN pg_aggregate g ON g.aggfnoid = o.oid",
    more=""",
        'kind', g.aggkind, 'direct arguments', CAST(g.aggnumdirectargs AS text), 'initial', g.agginitval,
        'state', concat_ws(' ', format_type(g.aggtranstype, NULL), g.aggtransspace), 'step', CAST(g.aggtransfn AS text),
        'final', concat_ws(' ', g.aggfinalfn, g.aggfinalextra, g.aggfinalmodify),
        'combine', concat_ws(' ', g.aggcombinefn, g.aggserialfn, g.aggdeserialfn),
        'sort', CAST(CAST(g.aggsortop AS regoper) AS text), 'moving initial', g.aggminitval,
        'moving', concat_ws(' ', g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn, g.aggmfinalextra, g.aggmfinalmodify,
                            format_type(g.aggmtranstype, NULL), g.aggmtransspace)""",
    users=users("n"),
    own=own("pg_proc"),
)
_TRIGGERS = f"""
SELECT o.oid, o.tgrelid AS relation, o.tgname AS name, json_build_object(
    'definition', CASE WHEN o.tgparentid = 0 THEN pg_get_triggerdef(o.oid) END,
    'enabled', {_ENABLED.format("o.tgenabled")}) AS facts
FROM pg_trigger o LEFT JOIN pg_trigger p ON p.oid = o.tgparentid
WHERE NOT o.tgisinternal AND (o.tgparentid = 0 OR o.tgenabled <> p.tgenabled)
"""
_RULES = f"""
SELECT o.oid, o.ev_class AS relation, o.rulename AS name, json_build_object(
    'definition', pg_get_ruledef(o.oid), 'enabled', {_ENABLED.format("o.ev_enabled")}) AS facts
FROM pg_rewrite o WHERE o.rulename <> '_RETURN'
"""
_POLICIES = """
SELECT o.oid, o.polrelid AS relation, o.polname AS name, json_build_object(
    'command', CASE o.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
        WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    'permissive', o.polpermissive,
    'roles', ARRAY(SELECT CASE WHEN u.role = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(u.role)) END
                   FROM unnest(o.polroles) AS u (role)),
    'using', coalesce(pg_get_expr(o.polqual, o.polrelid), '(none)'),
    'with check', coalesce(pg_get_expr(o.polwithcheck, o.polrelid), '(none)')) AS facts
FROM pg_policy o
"""
_STATISTICS = f"""
SELECT o.oid, n.nspname AS schema, o.stxname AS name, o.stxrelid AS relation, json_build_object(
    'columns', pg_get_statisticsobjdef_columns(o.oid), 'kinds', CAST(o.stxkind AS text[]),
    'target', coalesce(CAST(nullif(o.stxstattarget, -1) AS text), 'default')) AS facts
FROM pg_statistic_ext o JOIN pg_namespace n ON n.oid = o.stxnamespace WHERE {own("pg_statistic_ext")}
"""
_EVENT_TRIGGERS = f"""
SELECT o.oid, o.evtname AS name, json_build_object('event', o.evtevent, 'tags', coalesce(o.evttags, '{{}}'),
    'function', CAST(o.evtfoid AS regproc), 'enabled', {_ENABLED.format("o.evtenabled")}) AS facts
FROM pg_event_trigger o WHERE {own("pg_event_trigger")}
"""
_COLLATIONS = f"""
SELECT o.oid, n.nspname AS schema, o.collname AS name, json_build_object(
    'provider', o.collprovider, 'deterministic', o.collisdeterministic, 'collate', o.collcollate,
    'ctype', o.collctype, 'locale', coalesce(to_jsonb(o) ->> 'colllocale', to_jsonb(o) ->> 'colliculocale'),
    'rules', to_jsonb(o) ->> 'collicurules') AS facts
FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE {users("n")} AND {own("pg_collation")}
"""
_TEXT_SEARCH = """
SELECT o.oid, n.nspname AS schema, o.{prefix}name AS name, json_build_object({facts}) AS facts
FROM pg_ts_{catalog} o JOIN pg_namespace n ON n.oid = o.{prefix}namespace WHERE {users} AND {own}
"""
_CONFIGURATION = """
    'parser', (SELECT s.nspname || '.' || r.prsname FROM pg_ts_parser r
               JOIN pg_namespace s ON s.oid = r.prsnamespace WHERE r.oid = o.cfgparser),
    'mappings', ARRAY(
        SELECT t.alias || ': ' || string_agg(CAST(CAST(m.mapdict AS regdictionary) AS text), ' ' ORDER BY m.mapseqno)
        FROM pg_ts_config_map m JOIN ts_token_type(o.cfgparser) AS t ON t.tokid = m.maptokentype
        WHERE m.mapcfg = o.oid GROUP BY t.alias)
"""
_DICTIONARY = """
    'options', coalesce(o.dictinitoption, '(none)'),
    'template', (SELECT s.nspname || '.' || r.tmplname FROM pg_ts_template r
                 JOIN pg_namespace s ON s.oid = r.tmplnamespace WHERE r.oid = o.dicttemplate)
"""
_PARSER = "'functions', concat_ws(' ', o.prsstart, o.prstoken, o.prsend, o.prsheadline, o.prslextype)"
_TEMPLATE = "'functions', concat_ws(' ', o.tmplinit, o.tmpllexize)"
_OPERATORS = f"""
SELECT o.oid, n.nspname AS schema, o.oprname AS name,
    '(' || concat_ws(', ', CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END,
                     format_type(o.oprright, NULL)) || ')' AS arguments,
    json_build_object('function', CAST(o.oprcode AS text), 'restrict', CAST(o.oprrest AS text),
        'join', CAST(o.oprjoin AS text), 'commutator', CAST(CAST(o.oprcom AS regoper) AS text),
        'negator', CAST(CAST(o.oprnegate AS regoper) AS text), 'merges', o.oprcanmerge, 'hashes', o.oprcanhash) AS facts
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE {users("n")} AND {own("pg_operator")}
"""
_OPERATOR_CLASSES = f"""
SELECT o.oid, n.nspname AS schema, o.opcname AS name, ' USING ' || a.amname AS arguments, json_build_object(
    'type', format_type(o.opcintype, NULL), 'default', o.opcdefault,
    'stored as', CASE WHEN o.opckeytype <> 0 THEN format_type(o.opckeytype, NULL) END,
    'family', quote_ident(s.nspname) || '.' || quote_ident(f.opfname)) AS facts
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am a ON a.oid = o.opcmethod
JOIN pg_opfamily f ON f.oid = o.opcfamily JOIN pg_namespace s ON s.oid = f.opfnamespace
WHERE {users("n")} AND {own("pg_opclass")}
"""
_OPERATOR_FAMILIES = f"""
SELECT o.oid, n.nspname AS schema, o.opfname AS name, ' USING ' || a.amname AS arguments, json_build_object(
    'operators', ARRAY(SELECT concat_ws(' ', m.amopstrategy, CAST(m.amopopr AS regoperator), m.amoppurpose)
                       FROM pg_amop m WHERE m.amopfamily = o.oid),
    'functions', ARRAY(SELECT concat_ws(' ', m.amprocnum, format_type(m.amproclefttype, NULL),
                                    format_type(m.amprocrighttype, NULL), CAST(m.amproc AS regprocedure))
                       FROM pg_amproc m WHERE m.amprocfamily = o.oid)) AS facts
FROM pg_opfamily o JOIN pg_namespace n ON n.oid = o.opfnamespace JOIN pg_am a ON a.oid = o.opfmethod
WHERE {users("n")} AND {own("pg_opfamily")}
"""
_CASTS = f"""
SELECT o.oid, format_type(o.castsource, NULL) AS spelled, ' AS ' || format_type(o.casttarget, NULL) AS arguments,
    json_build_object('function', CASE WHEN o.castfunc <> 0 THEN CAST(CAST(o.castfunc AS regprocedure) AS text) END,
        'context', o.castcontext, 'method', o.castmethod) AS facts
FROM pg_cast o WHERE o.oid >= {FIRST_OF_USERS} AND {own("pg_cast")}
"""
_CONVERSIONS = f"""
SELECT o.oid, n.nspname AS schema, o.conname AS name, json_build_object(
    'from', pg_encoding_to_char(o.conforencoding), 'to', pg_encoding_to_char(o.contoencoding),
    'function', CAST(o.conproc AS text), 'default', o.condefault) AS facts
FROM pg_conversion o JOIN pg_namespace n ON n.oid = o.connamespace WHERE {users("n")} AND {own("pg_conversion")}
"""
_LANGUAGES = f"""
SELECT o.oid, o.lanname AS name, json_build_object('trusted', o.lanpltrusted,
    'functions', concat_ws(' ', CAST(o.lanplcallfoid AS regproc), CAST(o.laninline AS regproc),
                           CAST(o.lanvalidator AS regproc))) AS facts
FROM pg_language o WHERE o.oid >= {FIRST_OF_USERS} AND {own("pg_language")}
"""
_TRANSFORMS = f"""
SELECT o.oid, format_type(o.trftype, NULL) AS spelled, ' LANGUAGE ' || l.lanname AS arguments, json_build_object(
    'functions', concat_ws(' ', CAST(o.trffromsql AS text), CAST(o.trftosql AS text))) AS facts
FROM pg_transform o JOIN pg_language l ON l.oid = o.trflang WHERE {own("pg_transform")}
"""
_ACCESS_METHODS = f"""
SELECT o.oid, o.amname AS name, json_build_object('handler', CAST(o.amhandler AS text), 'type', o.amtype) AS facts
FROM pg_am o WHERE o.oid >= {FIRST_OF_USERS} AND {own("pg_am")}
"""
_PUBLICATIONS = f"""
SELECT o.oid, o.pubname AS name, json_build_object(
    'all tables', o.puballtables, 'via root', o.pubviaroot,
    'operations', concat_ws(', ', CASE WHEN o.pubinsert THEN 'insert' END, CASE WHEN o.pubupdate THEN 'update' END,
                            CASE WHEN o.pubdelete THEN 'delete' END, CASE WHEN o.pubtruncate THEN 'truncate' END),
    'generated columns', nullif(to_jsonb(o) ->> 'pubgencols', 'n'),
    'schemas', ARRAY(SELECT n.nspname FROM pg_publication_namespace m JOIN pg_namespace n ON n.oid = m.pnnspid
                     WHERE m.pnpubid = o.oid),
    'tables', ARRAY(
        SELECT concat_ws(' ', CAST(m.prrelid AS regclass),
            (SELECT '(' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) || ')' FROM pg_attribute a
             WHERE a.attrelid = m.prrelid AND a.attnum = ANY (CAST(m.prattrs AS int2[]))),
            'WHERE ' || pg_get_expr(m.prqual, m.prrelid))
        FROM pg_publication_rel m WHERE m.prpubid = o.oid)) AS facts
FROM pg_publication o WHERE {own("pg_publication")}
"""
_WRAPPERS = f"""
SELECT o.oid, o.fdwname AS name, json_build_object('handler', CAST(CAST(o.fdwhandler AS regproc) AS text),
    'validator', CAST(CAST(o.fdwvalidator AS regproc) AS text), 'options', coalesce(o.fdwoptions, '{{}}')) AS facts
FROM pg_foreign_data_wrapper o WHERE {own("pg_foreign_data_wrapper")}
"""
_SERVERS = f"""
SELECT o.oid, o.srvname AS name, json_build_object('wrapper', w.fdwname, 'type', o.srvtype, 'version', o.srvversion,
    'options', coalesce(o.srvoptions, '{{}}')) AS facts
FROM pg_foreign_server o JOIN pg_foreign_data_wrapper w ON w.oid = o.srvfdw WHERE {own("pg_foreign_server")}
"""


def _text_search(catalog: str, prefix: str, facts: str) -> str:
    name = f"pg_ts_{catalog}"
    return _TEXT_SEARCH.format(catalog=catalog, prefix=prefix, facts=facts, users=users("n"), own=own(name))


_CODE: Mapping[str, Spelling] = {"body": expressions.program, "SQL body": expressions.query}
_DEFINITION: Mapping[str, Spelling] = {"definition": expressions.query}
_CONDITIONS: Mapping[str, Spelling] = {
    "using": expressions.expression,
    "with check": expressions.expression,
}
_OPTIONS = frozenset({"options"})

KINDS = (
    Kind("schema", "pg_namespace", _SCHEMAS),
    Kind("extension", "pg_extension", _EXTENSIONS),
    Kind("function", "pg_proc", _FUNCTIONS, _CODE),
    Kind("procedure", "pg_proc", _PROCEDURES, _CODE),
    Kind("aggregate", "pg_proc", _AGGREGATES),
    Kind("trigger", "pg_trigger", _TRIGGERS, _DEFINITION),
    Kind("rule", "pg_rewrite", _RULES, _DEFINITION),
    Kind("policy", "pg_policy", _POLICIES, _CONDITIONS),
    Kind("statistics", "pg_statistic_ext", _STATISTICS, {"columns": expressions.unordered}),
    Kind("event trigger", "pg_event_trigger", _EVENT_TRIGGERS),
    Kind("collation", "pg_collation", _COLLATIONS),
    Kind("text search configuration", "pg_ts_config", _text_search("config", "cfg", _CONFIGURATION)),
    Kind("text search dictionary", "pg_ts_dict", _text_search("dict", "dict", _DICTIONARY)),
    Kind("text search parser", "pg_ts_parser", _text_search("parser", "prs", _PARSER)),
    Kind("text search template", "pg_ts_template", _text_search("template", "tmpl", _TEMPLATE)),
    Kind("operator", "pg_operator", _OPERATORS),
    Kind("operator class", "pg_opclass", _OPERATOR_CLASSES),
    Kind("operator family", "pg_opfamily", _OPERATOR_FAMILIES),
    Kind("cast", "pg_cast", _CASTS),
    Kind("conversion", "pg_conversion", _CONVERSIONS),
    Kind("language", "pg_language", _LANGUAGES),
    Kind("transform", "pg_transform", _TRANSFORMS),
    Kind("access method", "pg_am", _ACCESS_METHODS),
    Kind("publication", "pg_publication", _PUBLICATIONS),
    Kind("foreign data wrapper", "pg_foreign_data_wrapper", _WRAPPERS, secret=_OPTIONS),
    Kind("foreign server", "pg_foreign_server", _SERVERS, secret=_OPTIONS),
)

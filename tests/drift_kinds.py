"""Sixty ways in which one schema can drift from another, each alone, and how grave it is on either side."""

from dataclasses import dataclass

from panicdb.schema import Severity

BASE = """
CREATE TABLE config (
    id CHAR(32) NOT NULL,
    name VARCHAR(20) COLLATE NOCASE,
    length INTEGER DEFAULT 100 NOT NULL,
    started DATETIME DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT pk_config PRIMARY KEY (id),
    CONSTRAINT uq_name UNIQUE (name),
    CONSTRAINT ck_length CHECK (length > 0)
);
CREATE TABLE run (
    id INTEGER NOT NULL,
    config_id CHAR(32) NOT NULL,
    seed BIGINT,
    kind TEXT,
    doubled INTEGER GENERATED ALWAYS AS (seed * 2) STORED,
    PRIMARY KEY (id),
    CONSTRAINT fk_config FOREIGN KEY (config_id) REFERENCES config (id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT uq_seed UNIQUE (config_id, seed),
    CHECK (kind GLOB '[a-z]*')
);
CREATE TABLE counter (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT);
CREATE TABLE pair (a INTEGER NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE hard (x INT NOT NULL, y TEXT) STRICT;
CREATE INDEX ix_seed ON run (seed, kind);
CREATE INDEX ix_lower ON run (lower(kind)) WHERE seed > 0;
CREATE UNIQUE INDEX ix_note ON counter (note);
CREATE VIEW seeds AS SELECT id, seed AS Seed FROM run;
CREATE TRIGGER counted AFTER INSERT ON run BEGIN UPDATE counter SET note = 'x' WHERE id = 1; END;
CREATE VIRTUAL TABLE words USING fts5(body, tokenize = 'porter');
"""


B, S, C = Severity.BLOCKING, Severity.SEMANTIC, Severity.COSMETIC


@dataclass(frozen=True)
class Drift:
    """`old` in BASE becomes `new`. Expected: severity with drifted target, with drifted source."""

    name: str
    old: str
    new: str
    expected: dict

    def __str__(self):
        return self.name


E = "existence"
CONFIG_FK = "foreign key run(config_id) -> config(id)"
DRIFTS = [
    Drift(
        "table missing",
        "CREATE TABLE hard (x INT NOT NULL, y TEXT) STRICT;",
        "",
        {("table hard", E): (B, S)},
    ),
    Drift("column missing", "kind TEXT,", "kind TEXT, more INT,", {("column run.more", E): (S, B)}),
    Drift(
        "required column",
        "kind TEXT,",
        "kind TEXT, more INT NOT NULL,",
        {("column run.more", E): (B, B)},
    ),
    Drift(
        "required column with default",
        "kind TEXT,",
        "kind TEXT, more INT NOT NULL DEFAULT 0,",
        {("column run.more", E): (S, B)},
    ),
    Drift("affinity", "seed BIGINT", "seed TEXT", {("column run.seed", "type"): (B, B)}),
    Drift("type spelling", "seed BIGINT", "seed INTEGER", {("column run.seed", "type"): (S, S)}),
    Drift("length", "VARCHAR(20)", "VARCHAR(30)", {("column config.name", "type"): (S, S)}),
    Drift(
        "not null",
        "seed BIGINT",
        "seed BIGINT NOT NULL",
        {("column run.seed", "nullability"): (B, S)},
    ),
    Drift("default", "DEFAULT 100", "DEFAULT 10", {("column config.length", "default"): (S, S)}),
    Drift(
        "default missing",
        "DEFAULT CURRENT_TIMESTAMP",
        "",
        {("column config.started", "default"): (S, S)},
    ),
    Drift(
        "default string",
        "kind TEXT",
        "kind TEXT DEFAULT ''",
        {("column run.kind", "default"): (S, S)},
    ),
    Drift(
        "generated expression",
        "seed * 2",
        "seed * 3",
        {("column run.doubled", "generated"): (B, B)},
    ),
    Drift("generated storage", "STORED", "VIRTUAL", {("column run.doubled", "generated"): (S, S)}),
    Drift(
        "generated no longer",
        "GENERATED ALWAYS AS (seed * 2) STORED",
        "",
        {("column run.doubled", "generated"): (B, B)},
    ),
    Drift(
        "collation of a plain column",
        "kind TEXT,",
        "kind TEXT COLLATE RTRIM,",
        {
            ("column run.kind", "collation"): (S, S),
            ("index ix_seed", "column list"): (S, S),
        },
    ),
    Drift(
        "collation of a unique key",
        "COLLATE NOCASE",
        "",
        {
            ("column config.name", "collation"): (S, S),
            ("unique config(name)", "column list"): (B, B),
        },
    ),
    Drift(
        "not null conflict clause",
        "config_id CHAR(32) NOT NULL",
        "config_id CHAR(32) NOT NULL ON CONFLICT IGNORE",
        {("column run.config_id", "NOT NULL conflict clause"): (S, S)},
    ),
    Drift(
        "column constraint name",
        "DEFAULT 100",
        "CONSTRAINT df DEFAULT 100",
        {("column config.length", "constraint names"): (C, C)},
    ),
    Drift(
        "column order",
        "seed BIGINT,\n    kind TEXT,",
        "kind TEXT,\n    seed BIGINT,",
        {("table run", "column order"): (S, S)},
    ),
    Drift(
        "primary key missing",
        "    PRIMARY KEY (id),\n",
        "",
        {("primary key of run", E): (S, B)},
    ),
    Drift(
        "primary key wider",
        "PRIMARY KEY (a, b)",
        "PRIMARY KEY (a)",
        {("primary key of pair", "column list"): (B, B)},
    ),
    Drift(
        "primary key reordered",
        "PRIMARY KEY (a, b)",
        "PRIMARY KEY (b, a)",
        {("primary key of pair", "column list"): (S, S)},
    ),
    Drift(
        "primary key descending",
        "PRIMARY KEY (a, b)",
        "PRIMARY KEY (a, b DESC)",
        {("primary key of pair", "column list"): (S, S)},
    ),
    Drift(
        "primary key name",
        "CONSTRAINT pk_config PRIMARY",
        "PRIMARY",
        {("primary key of config", "name"): (C, C)},
    ),
    Drift(
        "primary key conflict clause",
        "PRIMARY KEY (id),\n    CONSTRAINT uq_name",
        "PRIMARY KEY (id) ON CONFLICT REPLACE,\n    CONSTRAINT uq_name",
        {("primary key of config", "conflict clause"): (S, S)},
    ),
    Drift(
        "no rowid alias",
        "id INTEGER NOT NULL",
        "id INT NOT NULL",
        {("primary key of run", "rowid alias"): (S, B), ("column run.id", "type"): (S, S)},
    ),
    Drift(
        "autoincrement",
        "id INTEGER PRIMARY KEY AUTOINCREMENT",
        "id INTEGER PRIMARY KEY",
        {("primary key of counter", "AUTOINCREMENT"): (S, S)},
    ),
    Drift("with rowid", " WITHOUT ROWID", "", {("table pair", "WITHOUT ROWID"): (S, S)}),
    Drift("not strict", " STRICT", "", {("table hard", "STRICT"): (S, B)}),
    Drift(
        "strict any",
        "y TEXT) STRICT",
        "y ANY) STRICT",
        {("column hard.y", "type"): (B, B)},
    ),
    Drift(
        "unique missing",
        "    CONSTRAINT uq_seed UNIQUE (config_id, seed),\n",
        "",
        {("unique run(config_id, seed)", E): (S, B)},
    ),
    Drift(
        "unique by index instead",
        "AUTOINCREMENT, note TEXT);",
        "AUTOINCREMENT, note TEXT UNIQUE);",
        {("unique counter(note)", E): (S, S)},
    ),
    Drift(
        "unique reordered",
        "UNIQUE (config_id, seed)",
        "UNIQUE (seed, config_id)",
        {
            ("unique run(config_id, seed)", E): (S, S),
            ("unique run(seed, config_id)", E): (S, S),
        },
    ),
    Drift("unique name", "uq_name", "uq_other", {("unique config(name)", "name"): (C, C)}),
    Drift(
        "unique conflict clause",
        "UNIQUE (name)",
        "UNIQUE (name) ON CONFLICT IGNORE",
        {("unique config(name)", "conflict clause"): (S, S)},
    ),
    Drift(
        "check missing",
        ",\n    CONSTRAINT ck_length CHECK (length > 0)",
        "",
        {("check config: length > 0", E): (S, B)},
    ),
    Drift(
        "check text",
        "[a-z]*",
        "a-z*",
        {
            ("check run: kind glob '[a-z]*'", E): (S, B),
            ("check run: kind glob 'a-z*'", E): (B, S),
        },
    ),
    Drift("check name", "ck_length", "ck_l", {("check config: length > 0", "name"): (C, C)}),
    Drift(
        "foreign key missing",
        BASE[BASE.index("    CONSTRAINT fk_config") : BASE.index("    CONSTRAINT uq_seed")],
        "",
        {(CONFIG_FK, E): (S, S)},
    ),
    Drift(
        "foreign key elsewhere",
        "REFERENCES config (id)",
        "REFERENCES config (name)",
        {
            (CONFIG_FK, E): (S, S),
            ("foreign key run(config_id) -> config(name)", E): (S, S),
        },
    ),
    Drift("on delete", "ON DELETE CASCADE", "", {(CONFIG_FK, "on delete"): (S, S)}),
    Drift(
        "on update",
        "ON DELETE CASCADE",
        "ON DELETE CASCADE ON UPDATE SET NULL",
        {(CONFIG_FK, "on update"): (S, S)},
    ),
    Drift("deferrable", "INITIALLY DEFERRED", "", {(CONFIG_FK, "deferrable"): (S, S)}),
    Drift("match", "ON DELETE", "MATCH FULL ON DELETE", {(CONFIG_FK, "match"): (S, S)}),
    Drift("foreign key name", "fk_config", "fk_other", {(CONFIG_FK, "name"): (C, C)}),
    Drift(
        "foreign key twice",
        "    CHECK (kind",
        "    FOREIGN KEY (config_id) REFERENCES config,\n    CHECK (kind",
        {
            # The two are told apart by their facts: CASCADE comes before NO ACTION.
            (f"{CONFIG_FK} (2)", E): (S, S),
        },
    ),
    Drift(
        "index missing",
        "CREATE INDEX ix_seed ON run (seed, kind);",
        "",
        {("index ix_seed", E): (S, S)},
    ),
    Drift(
        "unique index missing",
        "CREATE UNIQUE INDEX ix_note ON counter (note);",
        "",
        {("index ix_note", E): (S, B)},
    ),
    Drift(
        "index unique",
        "CREATE INDEX ix_seed",
        "CREATE UNIQUE INDEX ix_seed",
        {("index ix_seed", "unique"): (B, S)},
    ),
    Drift("index columns", "(seed, kind)", "(kind, seed)", {("index ix_seed", "column list"): (S, S)}),
    Drift(
        "index direction",
        "(seed, kind)",
        "(seed DESC, kind)",
        {("index ix_seed", "column list"): (S, S)},
    ),
    Drift(
        "index collation",
        "(seed, kind)",
        "(seed, kind COLLATE NOCASE)",
        {("index ix_seed", "column list"): (S, S)},
    ),
    Drift(
        "index expression",
        "lower(kind)",
        "upper(kind)",
        {("index ix_lower", "column list"): (S, S)},
    ),
    Drift("index predicate", "seed > 0", "seed > 1", {("index ix_lower", "where"): (S, S)}),
    Drift(
        "unique index partial",
        "counter (note)",
        "counter (note) WHERE id > 0",
        {("index ix_note", "where"): (B, B)},
    ),
    Drift(
        "index on another table",
        "ix_note ON counter (note)",
        "ix_note ON config (length)",
        {
            ("index ix_note", "table"): (B, B),
            ("index ix_note", "column list"): (B, B),
        },
    ),
    Drift(
        "view missing",
        "CREATE VIEW seeds AS SELECT id, seed AS Seed FROM run;",
        "",
        {("view seeds", E): (S, S)},
    ),
    Drift("view body", "seed AS Seed", "seed + 1 AS Seed", {("view seeds", "body"): (S, S)}),
    Drift("view column's case", "AS Seed", "AS seed", {("view seeds", "body"): (S, S)}),
    Drift("trigger body", "'x'", "'y'", {("trigger counted", "body"): (S, S)}),
    Drift("trigger time", "AFTER INSERT", "BEFORE INSERT", {("trigger counted", "body"): (S, S)}),
    Drift(
        "trigger name",
        "TRIGGER counted",
        "TRIGGER other",
        {
            ("trigger counted", E): (S, S),
            ("trigger other", E): (S, S),
        },
    ),
    Drift(
        "virtual table arguments",
        "'porter'",
        "'ascii'",
        {("virtual table words", "arguments"): (S, S)},
    ),
    Drift(
        "virtual table missing",
        "CREATE VIRTUAL TABLE words USING fts5(body, tokenize = 'porter');",
        "",
        {("virtual table words", E): (B, S)},
    ),
]

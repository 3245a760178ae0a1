"""A role with few privileges is enough; whatever it lacks is named before anything is written, all in one message."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result
from psycopg import sql

import application
from complaints import REFUSED, complains, fingerprint, untouched
from panicdb.backends.postgresql.addresses import read_address
from servers import Server

PASSWORD = "a-secret-of-mine"
APPLICATION = """
CREATE TABLE alembic_version (version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY);
INSERT INTO alembic_version VALUES ('2222bbbb');
CREATE TABLE lab (id serial PRIMARY KEY, name varchar(40));
CREATE TABLE run (id serial PRIMARY KEY, lab_id int NOT NULL REFERENCES lab);
CREATE INDEX ix_run_lab ON run (lab_id);
INSERT INTO lab (name) VALUES ('one'), ('two');
INSERT INTO run (lab_id) VALUES (1), (2), (2);
"""
RICHER = f"""
{APPLICATION}
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''fired''; END';
CREATE TABLE note (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id int UNIQUE REFERENCES run DEFERRABLE INITIALLY DEFERRED,
    mood mood[], size positive, twice int GENERATED ALWAYS AS (size * 2) STORED
);
INSERT INTO note (run_id, mood, size) VALUES (1, '{{sad,NULL}}', 1), (3, NULL, 2);
CREATE TRIGGER shouting BEFORE INSERT ON note FOR EACH ROW EXECUTE FUNCTION shout();
CREATE VIEW labs AS SELECT name FROM lab;
CREATE MATERIALIZED VIEW counted AS SELECT lab_id, count(*) FROM run GROUP BY 1;
CREATE TABLE part (day date, x int) PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO part VALUES ('2024-02-29', 1);
COMMENT ON TABLE lab IS 'where it happens';
"""
ARCHIVE = "CREATE SCHEMA archive; CREATE TABLE archive.old (id serial PRIMARY KEY); INSERT INTO archive.old VALUES (1)"
READING = """
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}
"""


@dataclass(frozen=True)
class Scene:
    """A source that belongs to somebody else, and a role that may read it and do nothing more."""

    server: Server
    folder: Path
    role: str
    run: Callable[..., Result]

    def url(self, database: str) -> str:
        return self.server.url(database, self.role, PASSWORD)

    @property
    def source(self) -> str:
        return self.url("origin")

    @property
    def target(self) -> str:
        return self.url("goal")

    def make(self, script: str = APPLICATION, grants: str = READING) -> None:
        self.server.create(script, "origin")
        self.grant(grants)

    def grant(self, statements: str, database: str = "origin") -> None:
        names = {"database": sql.Identifier(database), "role": sql.Identifier(self.role)}
        self.server.execute(sql.SQL(statements).format(**names), database)

    def give(self, grants: str) -> None:
        """Create the target for the role, empty."""
        self.server.create(name="goal")
        self.grant(grants, "goal")

    def refuses(self, *fragments: str, command: tuple[str, ...] = ("--root", "lab", "1")) -> Result:
        """Export in vain: nothing has changed anywhere."""
        with untouched(self.server, self.server.url("origin"), self.server.url("goal")):
            done = self.run("export", self.source, self.target, *command, "-v")
        complains(done, REFUSED, *fragments)
        assert PASSWORD not in done.output
        return done

    def rows(self, table: str, database: str = "goal") -> list[tuple]:
        return self.server.execute(f"SELECT * FROM {table} ORDER BY 1", database)


@pytest.fixture
def scene(postgres, make_pg, cli, tmp_path, monkeypatch) -> Iterator[Scene]:
    monkeypatch.setenv("PANICDB_PG_DUMP", str(postgres.binaries / "pg_dump"))
    monkeypatch.chdir(tmp_path)
    postgres.execute(f"CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOCREATEDB NOCREATEROLE")
    return Scene(postgres, tmp_path, "limited", cli)


OWNED = "ALTER DATABASE {database} OWNER TO {role}"
GRANTED = "GRANT CREATE ON SCHEMA public TO {role}"
GIVEN = {"owner of an empty database": OWNED, "CREATE on a schema of another's": GRANTED, "CREATEDB": ""}


WAYS = [
    ("owner of an empty database", "migrations"),
    ("CREATE on a schema of another's", "copy"),
    ("CREATEDB", "migrations"),
    pytest.param("owner of an empty database", "copy", marks=pytest.mark.prove),
    pytest.param("CREATE on a schema of another's", "migrations", marks=pytest.mark.prove),
    pytest.param("CREATEDB", "copy", marks=pytest.mark.prove),
]


@pytest.mark.parametrize(("given", "schema"), WAYS)
def test_few_privileges_are_enough(scene, given, schema):
    scene.make(RICHER if schema == "copy" else APPLICATION)
    if GIVEN[given]:
        scene.give(GIVEN[given])
    else:
        scene.server.execute("ALTER ROLE limited CREATEDB")
    application.write_application(scene.folder, {}, url=scene.source)
    choice = ("-c", "alembic.ini") if schema == "migrations" else ()
    before = fingerprint(scene.server, "origin")
    arguments = (scene.source, scene.target, "--schema", schema, *choice)
    if given == "CREATEDB":
        done = scene.run("clone", *arguments)
        labs, runs = [(1, "one"), (2, "two")], [(1, 1), (2, 2), (3, 2)]
        proof = scene.run("verify", scene.source, scene.target)
    else:
        done = scene.run("export", *arguments, "2", "--root", "lab", "--seal", "--receipt", "receipt.json")
        labs, runs = [(2, "two")], [(2, 2), (3, 2)]
        proof = scene.run("verify", "receipt.json", scene.target)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "migrations" in done.stdout if schema == "migrations" else "copied" in done.stdout
    assert (proof.exit_code, proof.stderr) == (0, "")
    assert (scene.rows("lab"), scene.rows("run")) == (labs, runs)
    assert fingerprint(scene.server, "origin") == before
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname IN ('lab', 'run', 'alembic_version')"
    assert scene.server.execute(owners, "goal") == [("limited",)]
    assert scene.server.databases() >= {"origin", "goal"}
    assert not [name for name in scene.server.databases() if "panicdb" in name]
    left = "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'goal'"
    assert scene.server.execute(left) == []
    assert PASSWORD not in done.output + proof.output


def test_the_right_to_read_everything_is_enough(scene):
    """As the hint says."""
    scene.make(
        f"{RICHER}; {ARCHIVE}",
        "GRANT pg_read_all_data TO {role}; GRANT TEMPORARY ON DATABASE {database} TO {role}",
    )
    scene.give(OWNED)
    done = scene.run("clone", scene.source, scene.target, "--schema", "copy")
    assert (done.exit_code, done.stderr) == (0, "")
    assert scene.rows("archive.old") == [(1,)]


def test_listing_planning_and_verifying_need_no_more_than_reading(scene):
    scene.make()
    for command in (
        ("list", scene.source, "--root", "lab"),
        ("export", scene.source, scene.url("nowhere"), "1", "--root", "lab", "--dry-run"),
        ("verify", scene.source, scene.source),
    ):
        done = scene.run(*command)
        assert done.exit_code == (REFUSED if "--dry-run" in command else 0), done.output


# What the source's user lacks

LACKING = {
    "SELECT on table lab": "REVOKE SELECT ON lab FROM {role}",
    "SELECT on table alembic_version": "REVOKE SELECT ON alembic_version FROM {role}",
    "SELECT on table run": "REVOKE SELECT ON run FROM {role}; GRANT SELECT (id) ON run TO {role}",
    "SELECT on sequence lab_id_seq": "REVOKE SELECT ON SEQUENCE lab_id_seq FROM {role}",
    "USAGE on schema public": "REVOKE USAGE ON SCHEMA public FROM PUBLIC, {role}",
    "TEMPORARY on database origin": "REVOKE TEMPORARY ON DATABASE {database} FROM {role}",
}


@pytest.mark.parametrize("wanted", LACKING)
def test_a_missing_privilege_on_the_source_is_named(scene, wanted):
    scene.make()
    scene.grant(LACKING[wanted])
    scene.give(OWNED)
    done = scene.refuses(
        f"origin at {scene.server.host}:{scene.server.port}: the user lacks privileges: {wanted}\n"
    )
    assert "pg_read_all_data" in done.stderr


def test_all_that_is_missing_is_in_one_message(scene):
    scene.make(
        f"{RICHER}; {ARCHIVE}",
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO {role}",
    )
    scene.grant("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    scene.give(OWNED)
    scene.refuses(
        *("SELECT on table " + name for name in ("alembic_version", "archive.old", "lab", "note", "part", "run")),
        *("SELECT on sequence " + name for name in ("archive.old_id_seq", "lab_id_seq", "note_id_seq", "run_id_seq")),
        *("USAGE on schema " + name for name in ("archive", "public")),
        "TEMPORARY on database origin",
    )  # fmt: skip


def test_a_database_that_one_may_not_connect_to(scene):
    scene.make(grants="REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    scene.give(OWNED)
    scene.refuses("origin at", "may not connect", "GRANT CONNECT")
    scene.grant("GRANT CONNECT ON DATABASE {database} TO {role}")
    scene.grant(READING)
    scene.server.execute("ALTER DATABASE goal OWNER TO postgres; REVOKE CONNECT ON DATABASE goal FROM PUBLIC")
    scene.refuses("goal at", "may not connect", "GRANT CONNECT")


# Row security

HIDING = "ALTER TABLE run ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON run USING (lab_id = 1)"


def test_rows_that_a_policy_would_hide_are_not_left_out_in_silence(scene):
    scene.make(f"{APPLICATION}; {HIDING}")
    scene.give(OWNED)
    for command in (("--root", "lab", "1"), ("--root", "lab", "--all", "--dry-run")):
        scene.refuses(
            "policies of row security would hide rows from this user: run\n", "BYPASSRLS", command=command
        )
    done = scene.run("verify", scene.source, scene.source)
    complains(done, REFUSED, "would hide rows from this user: run\n")


def test_who_sees_all_rows_may_export_them(scene):
    scene.make(f"{APPLICATION}; {HIDING}")
    scene.give(OWNED)
    scene.server.execute("ALTER ROLE limited BYPASSRLS")
    done = scene.run("clone", scene.source, scene.target, "--schema", "copy")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(scene.rows("run")) == 3
    assert scene.server.execute("SELECT polname FROM pg_policy", "goal") == [("mine",)]


@pytest.mark.parametrize("forced", [False, True])
def test_an_owner_sees_all_rows_unless_policies_are_forced_on_him(scene, forced):
    scene.make(f"{APPLICATION}; {HIDING}; {'ALTER TABLE run FORCE ROW LEVEL SECURITY' if forced else ''}")
    scene.grant("ALTER TABLE run OWNER TO {role}")
    scene.give(OWNED)
    if forced:
        scene.refuses("policies of row security would hide rows from this user: run\n")
        return
    done = scene.run("clone", scene.source, scene.target, "--schema", "copy")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(scene.rows("run")) == 3


@pytest.mark.parametrize("given", [True, False], ids=["given", "new"])
def test_policies_that_would_be_forced_on_the_target_s_owner_are_found_before(scene, given):
    """The source is read by one who is past them; the target would belong to one who is not."""
    scene.make(f"{APPLICATION}; {HIDING}; ALTER TABLE run FORCE ROW LEVEL SECURITY")
    if given:
        scene.give(OWNED)
    else:
        scene.server.execute("ALTER ROLE limited CREATEDB")
    with untouched(scene.server, scene.server.url("origin"), scene.server.url("goal")):
        done = scene.run("clone", scene.server.url("origin"), scene.target, "--schema", "copy")
    complains(
        done, REFUSED, "goal at", "is lacking: BYPASSRLS, for policies are forced on the owner of run\n"
    )


# What the target's user lacks


def test_a_database_that_one_may_not_create(scene):
    scene.make()
    scene.refuses("goal at", "does not exist, and this user may not create databases", "CREATEDB")


def test_a_schema_in_which_one_may_not_create(scene):
    scene.make()
    scene.give("SELECT 1")
    scene.refuses("goal at", "what the target needs is lacking: CREATE on schema public\n", "administrator")


def test_all_that_a_target_lacks_is_in_one_message(scene):
    scene.make(f"{APPLICATION}; {ARCHIVE}; {NOWHERE}")
    scene.grant(
        "GRANT USAGE ON SCHEMA archive TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA archive TO {role}"
    )
    scene.grant("GRANT SELECT ON ALL SEQUENCES IN SCHEMA archive TO {role}")
    scene.give("SELECT 1")
    scene.refuses(
        "goal at",
        "CREATE on schema public, CREATE on the database, for schema archive, extension nowhere (not on the server)\n",
    )


NOWHERE = """
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (16000, 'nowhere', 10, 'public'::regnamespace, false, '1.0')
"""


@pytest.mark.parametrize("given", [True, False], ids=["given", "new"])
def test_an_extension_that_the_server_does_not_have(scene, given):
    """What the source's catalog names, and no file of the server is."""
    scene.make(f"{APPLICATION}; {NOWHERE}")
    if given:
        scene.give(OWNED)
    else:
        scene.server.execute("ALTER ROLE limited CREATEDB")
    scene.refuses("goal at", "is lacking: extension nowhere (not on the server)\n", "install it")


EXTENSIONS = "SELECT name FROM pg_available_extension_versions WHERE {} AND name <> 'plpgsql' ORDER BY 1"


def find_extension(server: Server, condition: str) -> str:
    found = server.execute(EXTENSIONS.format(condition))
    if not found:
        pytest.skip(f"{server.name} comes without an extension where {condition}")
    return found[0][0]


@pytest.mark.parametrize("given", [True, False], ids=["given", "new"])
def test_an_extension_that_only_a_superuser_can_create(scene, given):
    name = find_extension(
        scene.server, "superuser AND NOT trusted AND requires IS NULL AND NOT relocatable IS NULL"
    )
    scene.make(f'{APPLICATION}; CREATE EXTENSION "{name}"')
    if given:
        scene.give(OWNED)
    else:
        scene.server.execute("ALTER ROLE limited CREATEDB")
    scene.refuses("goal at", f"is lacking: extension {name} (only a superuser can create it)\n")
    if given:
        scene.server.execute(f'CREATE EXTENSION "{name}"', "goal")
        done = scene.run("clone", scene.source, scene.target, "--schema", "copy")
        assert (done.exit_code, done.stderr) == (0, "")


def test_a_trusted_extension_wants_a_right_on_the_database(scene):
    name = find_extension(scene.server, "trusted AND requires IS NULL")
    scene.make(f'{APPLICATION}; CREATE EXTENSION "{name}"')
    scene.give(GRANTED)
    scene.refuses("goal at", f"is lacking: CREATE on the database, for extension {name}\n")
    scene.server.execute("GRANT CREATE ON DATABASE goal TO limited")
    done = scene.run("clone", scene.source, scene.target, "--schema", "copy")
    assert (done.exit_code, done.stderr) == (0, "")
    assert scene.server.execute("SELECT extname FROM pg_extension ORDER BY 1", "goal") == sorted(
        [("plpgsql",), (name,)]
    )


def test_drift_wants_a_scratch_database(scene):
    scene.make()
    application.write_application(scene.folder, {}, url=scene.source)
    with untouched(scene.server, scene.server.url("origin")):
        done = scene.run("drift", scene.source, "-c", "alembic.ini")
    complains(done, REFUSED, "may not create databases", "CREATEDB")
    scene.server.execute("ALTER ROLE limited CREATEDB")
    done = scene.run("drift", scene.source, "-c", "alembic.ini")
    assert (done.exit_code, done.stderr) == (0, "")
    assert read_address(scene.source).database == "origin"

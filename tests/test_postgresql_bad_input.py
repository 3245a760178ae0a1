"""Bad input with PostgreSQL: one clear message, the right exit code, no secret anywhere, nothing changed."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import Result

import application
import servers
import tls
from complaints import FAILED, REFUSED, USAGE, complains, some, untouched
from panicdb.backends.postgresql import definitions, sessions
from servers import Server

SECRET = "s3cret/with@odd:chars?&%'"
VALUE = "the-value-of-a-row"
SHELTER = f"""
CREATE TABLE person (id text PRIMARY KEY, name text NOT NULL);
CREATE TABLE pet (id serial PRIMARY KEY, owner text REFERENCES person, name text NOT NULL);
CREATE TABLE tag (id uuid PRIMARY KEY);
CREATE TABLE seat (line int, place smallint, PRIMARY KEY (line, place));
CREATE TABLE trace (id int);
CREATE FUNCTION leave_trace() RETURNS boolean LANGUAGE sql VOLATILE
    AS 'INSERT INTO public.trace VALUES (1); SELECT true';
INSERT INTO person VALUES ('anna-1', '{VALUE}'), ('anna-2', '{VALUE}'), ('bert-1', '{VALUE}');
INSERT INTO pet (owner, name) VALUES ('anna-1', '{VALUE}'), ('bert-1', '{VALUE}');
INSERT INTO tag VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12');
INSERT INTO seat VALUES (1, 1)
"""
ANNA = ("anna-1", "--root", "person")


@dataclass(frozen=True)
class Scene:
    """A source, and where a target is to be; the user's password is a secret."""

    server: Server
    run: Callable[..., Result]
    origin: str = "origin"

    def url(self, database: str = "", user: str = "keeper", password: str = SECRET, query: str = "") -> str:
        return self.server.url(database or self.origin, user, password) + (f"?{query}" if query else "")

    @property
    def source(self) -> str:
        return self.url()

    @property
    def target(self) -> str:
        return self.url("goal")

    def call(self, *arguments: object) -> Result:
        """Run with all that can be said, and see that no secret is."""
        done = self.run(*arguments, "-v")
        values = () if "list" in arguments else (VALUE,)  # that shows some of a root's columns
        for secret in (SECRET, quote(SECRET, safe=""), *values, self.server.password):
            assert secret not in done.output
        return done

    def refuses(
        self, code: int, *fragments: str, source: str = "", target: str = "", more: tuple[str, ...] = ANNA
    ) -> None:
        """Export in vain."""
        with untouched(self.server, self.source, self.target):
            done = self.call("export", source or self.source, target or self.target, *more)
            complains(done, code, *fragments)

    def here(self, database: str = "") -> str:
        return f"{database or self.origin} at {self.server.host}:{self.server.port}: "


@pytest.fixture(scope="module")
def standing(postgres) -> Iterator[Server]:
    """A server with the source and its user; tests leave both as they were."""
    spelled = SECRET.replace("'", "''")
    with postgres.tidying():
        postgres.execute(f"CREATE ROLE keeper LOGIN CREATEDB PASSWORD '{spelled}'")
        postgres.create(SHELTER, "origin")
        postgres.execute("ALTER DATABASE origin OWNER TO keeper; GRANT pg_read_all_data TO keeper")
        yield postgres


@pytest.fixture
def scene(standing, cli, tmp_path, monkeypatch) -> Scene:
    monkeypatch.setenv("PANICDB_PG_DUMP", str(standing.binaries / "pg_dump"))
    monkeypatch.chdir(tmp_path)
    return Scene(standing, cli)


@pytest.fixture
def apart(scene, make_pg) -> Scene:
    """For what leaves something behind: with a source of its own, and all databases that come are dropped."""
    make_pg(SHELTER, "apart")
    scene.server.execute("ALTER DATABASE apart OWNER TO keeper")
    return replace(scene, origin="apart")


def test_the_same_with_nothing_wrong_succeeds(apart, tmp_path):
    """The measure of the refusals below; neither what it prints nor its receipt holds a secret."""
    source = apart.url(password=None, query=f"password={quote(SECRET, safe='')}&application_name={VALUE}")
    receipt = tmp_path / "receipt.json"
    done = apart.call("export", source, apart.target, *ANNA, "--seal", "--receipt", receipt)
    assert done.exit_code == 0, done.output
    assert apart.server.execute("SELECT id FROM person", "goal") == [("anna-1",)]
    for secret in (SECRET, quote(SECRET, safe=""), VALUE, "keeper", "password"):
        assert secret not in receipt.read_text()
    for command in (
        ("verify", source, apart.target, *ANNA),
        ("verify", receipt, apart.target),
        ("list", source, "--root", "pet"),
    ):
        assert apart.call(*command, "--json").exit_code == 0


# Servers that can't be reached


UNREACHABLE = {
    "wrong password": ({"password": f"not-{SECRET}"}, "the server refused the password of this user"),
    "wrong password in the query": (
        {"password": None, "query": f"password=not-{quote(SECRET, safe='')}"},
        "the server refused the password of this user",
    ),
    "no password": (
        {"password": None, "query": "passfile=/dev/null"},
        "the server refused the password of this user",
    ),
    "no such user": ({"user": "nobody-knows"}, "the server refused the password of this user"),
    "TLS that is not there": ({"query": "sslmode=require"}, "TLS was asked for, and the server has none"),
    "no certificate to verify by": ({"query": "sslmode=verify-full&sslrootcert=/nowhere/root.crt"}, "TLS"),
    "no such host": ({"query": "host=nowhere.invalid"}, "there is no host of this name"),
    "no such socket": ({"query": "host=/nowhere"}, "no server answers there"),
}


@pytest.mark.parametrize("why", UNREACHABLE)
def test_a_server_that_does_not_let_one_in(scene, why):
    """As a source and as a target."""
    options, wanted = UNREACHABLE[why]
    scene.refuses(REFUSED, "origin at ", wanted, source=scene.url(**options))
    scene.refuses(REFUSED, wanted, target=scene.url("goal", **options))


def test_a_server_that_is_not_there_or_does_not_answer(scene):
    """`connect_timeout` of the address counts; libpq takes two seconds at least."""
    port = servers.free_port()
    address = f"postgresql://keeper:{quote(SECRET, safe='')}@127.0.0.1:{{}}/origin"
    scene.refuses(
        REFUSED, f"origin at 127.0.0.1:{port}: no server answers there", source=address.format(port)
    )
    with socket.create_server((servers.LOOPBACK, 0)) as listening:  # that never answers
        port = listening.getsockname()[1]
        slow = address.format(port) + "?connect_timeout=1"
        scene.refuses(
            REFUSED,
            f"origin at 127.0.0.1:{port}: the server can't be reached",
            "connect_timeout",
            source=slow,
        )


def test_a_certificate_that_can_not_be_verified(scene, tmp_path):
    """Whoever signed it; and one that is for another host."""
    authority = tls.Authority(tmp_path).make()
    with tls.opened(scene.server, authority) as door:
        for host, root in (("localhost", "stranger"), ("127.0.0.1", "root")):
            query = f"host={host}&port={door.port}&sslmode=verify-full&sslrootcert={authority.file(f'{root}.crt')}"
            scene.refuses(REFUSED, "origin at", "TLS failed", "sslrootcert", source=scene.url(query=query))
        query = (
            f"host=localhost&port={door.port}&sslmode=verify-full&sslrootcert={authority.file('root.crt')}"
        )
        assert scene.call("list", scene.url(query=query), "--root", "pet").exit_code == 0


@pytest.mark.parametrize("command", ["list", "clone", "verify", "drift"])
def test_a_database_that_is_not_there(scene, command):
    places = {"clone": (scene.url("nowhere"), scene.target), "verify": (scene.source, scene.url("nowhere"))}
    with untouched(scene.server, scene.source):
        done = scene.call(command, *places.get(command, (scene.url("nowhere"),)))
    complains(done, REFUSED, scene.here("nowhere") + "there is no such database")


# Addresses

MALFORMED = {
    "postgresql://keeper:{secret}@127.0.0.1:port/origin": "can't be read",
    "postgresql://keeper:{secret}@[::1/origin": "can't be read",
    "postgresql://keeper:{secret}@127.0.0.1": "names no database",
    "postgresql://keeper:{secret}@127.0.0.1/": "names no database",
    "postgresql://keeper@127.0.0.1?password={secret}": "names no database",
    "postgresql://keeper:{secret}@127.0.0.1/origin?sslmode=require&sslmode=disable": "can't be read",
    "postgresql://keeper:{secret}@127.0.0.1/" + "long" * 16: "63 bytes",
    "mysql://keeper:{secret}@127.0.0.1/origin": "found an address of 'mysql'",
}


@pytest.mark.parametrize("address", MALFORMED)
def test_an_address_that_is_none(scene, address):
    spelled = address.format(secret=quote(SECRET, safe=""))
    scene.refuses(USAGE, MALFORMED[address], source=spelled)
    scene.refuses(USAGE, MALFORMED[address], target=spelled)


SPELLED = quote(SECRET, safe="")
MISSPELT = {
    "nonsense=1": "is unknown: nonsense",
    f"pasword={SPELLED}": "is unknown: pasword",
    f"sslmode={SPELLED}": "has a value that it can't have: sslmode",
    f"keepalives_idle={SPELLED}": "has a value that it can't have: keepalives_idle",
    f"connect_timeout={SPELLED}": "has a value that it can't have: connect_timeout",
    "port=99999": "has a value that it can't have: port",
}


@pytest.mark.parametrize("query", MISSPELT)
def test_an_option_that_libpq_does_not_take(scene, query):
    scene.refuses(
        USAGE, "origin at", f"an option of the address {MISSPELT[query]}", source=scene.url(query=query)
    )
    scene.refuses(USAGE, f"an option of the address {MISSPELT[query]}", target=scene.url("goal", query=query))


WITHIN_ONE_ENGINE = {
    "--merge": "rows are not merged from",
    "--spool": "there is no spooling from",
    "--schema=copy": "definitions can't be copied from",
}


@pytest.mark.parametrize("option", WITHIN_ONE_ENGINE)
def test_what_stays_within_one_engine(scene, make_db, option):
    file = make_db("CREATE TABLE person (id TEXT PRIMARY KEY); INSERT INTO person VALUES ('anna-1')")
    for source, target in ((file, scene.target), (scene.source, file.with_name("new.db"))):
        more = (*ANNA, option)
        scene.refuses(USAGE, WITHIN_ONE_ENGINE[option], source=source, target=target, more=more)
    assert sorted(path.name for path in file.parent.iterdir()) == ["source.db"]


WITHOUT_DRIVER = "import sys; sys.modules['psycopg'] = None; from panicdb.__main__ import main; main()"


def test_without_its_driver(scene):
    command = [sys.executable, "-c", WITHOUT_DRIVER, "list", scene.source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr == (
        "error: addresses of PostgreSQL need psycopg, which is not installed\n"
        "hint: pip install 'panicdb[postgresql]'\n"
    )


# What kind of server and database it is


def test_a_server_that_is_too_old(scene, monkeypatch):
    monkeypatch.setattr(sessions, "OLDEST", 99)
    wanted = f"the server is PostgreSQL {scene.server.version}, and 99 is the oldest that is supported"
    scene.refuses(REFUSED, wanted)
    complains(scene.call("list", scene.source), REFUSED, scene.here() + wanted)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding(apart, encoding):
    apart.server.execute(
        f"CREATE DATABASE odd ENCODING '{encoding}' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' "
        "TEMPLATE template0 OWNER keeper"
    )
    wanted = apart.here("odd") + f"its encoding is {encoding}, and only UTF8 is supported"
    apart.refuses(REFUSED, wanted, source=apart.url("odd"))
    apart.refuses(REFUSED, wanted, target=apart.url("odd"))


def test_a_hot_standby(scene, tmp_path):
    """Of a server of its own: one that follows another is to be had from the embedded one."""
    if not isinstance(scene.server, servers.Embedded):
        pytest.skip("the standby is one of the embedded server")
    with servers.standby(scene.server) as following:
        for command in (("list",), ("export", *ANNA)):
            source = following.url("origin", "keeper", SECRET)
            arguments = (source, scene.target, *command[1:]) if command[0] == "export" else (source,)
            complains(scene.call(command[0], *arguments), REFUSED, "a hot standby", "name its primary")
        complains(
            scene.call("export", scene.source, following.url("goal", "keeper", SECRET), *ANNA),
            REFUSED,
            "goal at",
        )
    assert "goal" not in scene.server.databases()


def test_one_database_under_two_addresses(scene):
    """Neither the host nor the user tells: a lock does."""
    server = scene.server
    others = [
        server.url("origin"),
        scene.url(query="host=localhost"),
        scene.url().replace("postgresql", "postgres", 1),
    ]
    if isinstance(server, servers.Embedded):
        others.append(scene.url(query=f"host={quote(str(server.folder), safe='')}"))
    for other in others:
        scene.refuses(REFUSED, "source and target are the same database", "never written", target=other)
        scene.refuses(REFUSED, "source and target are the same database", source=other, target=scene.source)


def test_large_objects_are_named(apart):
    first, second = (apart.server.execute("SELECT lo_from_bytea(0, 'x')", "apart")[0][0] for _ in range(2))
    apart.refuses(REFUSED, apart.here() + "has large objects", f"{first}, {second}\n", "bytea")
    for command in (
        ("clone", apart.source, apart.target),
        ("export", apart.source, apart.target, *ANNA, "--dry-run"),
    ):
        complains(apart.call(*command), REFUSED, "has large objects")


# Targets


def test_a_target_that_holds_something(apart):
    apart.server.create("CREATE TABLE person (id text); INSERT INTO person VALUES ('dear')", "goal")
    apart.server.execute("ALTER DATABASE goal OWNER TO keeper; GRANT pg_read_all_data TO keeper")
    apart.refuses(REFUSED, apart.here("goal") + "exists and holds rows, in person", "choose another name")
    apart.refuses(REFUSED, "holds rows", "merged into SQLite files only", more=(*ANNA, "--merge"))
    apart.refuses(REFUSED, "holds rows", "only SQLite files are replaced", more=(*ANNA, "--replace"))


OTHER = ("CREATE TABLE person (id text)", "CREATE TABLE other (id int)", "CREATE TYPE mood AS ENUM ('sad')")


@pytest.mark.parametrize("there", some(OTHER, 3))
def test_a_target_with_another_schema(apart, there):
    apart.server.create(there, "goal")
    apart.server.execute("ALTER DATABASE goal OWNER TO keeper")
    apart.server.execute("ALTER SCHEMA public OWNER TO keeper", "goal")
    apart.refuses(
        REFUSED, apart.here("goal") + "exists and has a schema that is not the source's", "panicdb verify"
    )


def test_there_is_nothing_to_spool(scene):
    scene.refuses(USAGE, "nothing to spool", "leave --spool out", more=(*ANNA, "--spool"))


def test_a_receipt_that_can_not_be_written(scene, tmp_path):
    (tmp_path / "mine").write_text("dear")
    scene.refuses(REFUSED, "no receipt", more=(*ANNA, "--receipt", "mine"))
    scene.refuses(REFUSED, "there is no directory", more=(*ANNA, "--receipt", "nowhere/receipt.json"))
    scene.refuses(USAGE, "password", more=(*ANNA, "--receipt", scene.target))
    assert (tmp_path / "mine").read_text() == "dear"


# Its programs


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/pg_dump", "/bin/true"])
def test_no_program_that_reads_definitions(scene, monkeypatch, program):
    monkeypatch.setenv("PANICDB_PG_DUMP", program)
    scene.refuses(
        REFUSED,
        f"needs pg_dump of PostgreSQL {scene.server.version} or later, and none was found",
        "PANICDB_PG_DUMP",
    )


def test_no_program_anywhere(scene, monkeypatch):
    monkeypatch.delenv("PANICDB_PG_DUMP")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(definitions, "FOLDERS", ("/nowhere/*/bin",))
    scene.refuses(
        REFUSED, "needs pg_dump", "none was found", "let the application's migrations build the schema"
    )


def test_a_program_that_fails(scene, monkeypatch, tmp_path):
    """What it says is told without the secrets that it may hold."""
    version = scene.server.version
    program = tmp_path / "pg_dump"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) {version}.0" && exit\n'
        'echo "pg_dump: error: no luck with password=$PGPASSWORD" >&2; exit 1\n'.replace("\\\n", "\n")
    )
    program.chmod(0o755)
    monkeypatch.setenv("PANICDB_PG_DUMP", str(program))
    scene.refuses(REFUSED, "pg_dump could not read the definitions: no luck with password=***")


def test_where_a_program_is_shown_no_password_is(apart, monkeypatch, tmp_path):
    """Other users of a machine see the arguments of programs."""
    real = apart.server.binaries / "pg_dump"
    program, seen = tmp_path / "pg_dump", tmp_path / "seen"
    program.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {real} "$@"\n'.replace("\\\n", "\n"))
    program.chmod(0o755)
    monkeypatch.setenv("PANICDB_PG_DUMP", str(program))
    query = f"password={quote(SECRET, safe='')}"
    assert apart.call("export", apart.url(password=None, query=query), apart.target, *ANNA).exit_code == 0
    assert "--schema-only" in seen.read_text()
    assert SECRET not in seen.read_text()
    assert quote(SECRET, safe="") not in seen.read_text()


# Selections

ENDING = "INSERT INTO public.trace SELECT 1 WHERE (true"  # so that what follows a condition is well-formed
WRITING = {
    "public.leave_trace()": "cannot execute INSERT in a read-only transaction",
    "nextval('public.pet_id_seq') > 0": "cannot execute nextval() in a read-only transaction",
    "set_config('transaction_read_only', 'off', true) = 'off' AND public.leave_trace()": "read-only transaction",
    f"true); DELETE FROM public.pet; {ENDING}": "cannot insert multiple commands",
    f"true); RELEASE SAVEPOINT reading; DELETE FROM public.pet; COMMIT; {ENDING}": "cannot insert multiple commands",
    "true); DELETE FROM public.pet; --": "syntax error",
}
NO_SQL = {
    "owner of": "syntax error",
    "id =": "syntax error",
    "nobody = 1": 'column "nobody" does not exist',
    "id / 0 = '1'": "operator does not exist",
    "1 / 0 = 1": "DivisionByZero",
    "name": "must be type boolean",
    "'": "unterminated quoted string",
    "nowhere() = 1": "function nowhere() does not exist",
    "id = 'x' -- %s %(name)s :name": "no row of person was chosen",
    "pg_catalog.pg_sleep(0) IS NULL": "no row of person was chosen",
}


def test_a_condition_that_somebody_cancels_is_not_called_wrong(scene):
    condition = "pg_catalog.pg_cancel_backend(pg_catalog.pg_backend_pid())"
    more = ("--root", "person", "--where", condition)
    scene.refuses(
        FAILED, "canceling statement due to user request", source=scene.server.url("origin"), more=more
    )


def test_a_secret_that_pg_dump_would_show_to_everybody_stops_a_copy_of_the_definitions(scene):
    source = f"{scene.server.url('origin')}?sslpassword=s3cret"
    scene.refuses(
        REFUSED, "everybody on this machine would read", source=source, more=(*ANNA, "--schema", "copy")
    )


@pytest.mark.parametrize("condition", WRITING)
def test_a_condition_can_not_write(scene, condition):
    """Not even where the user could."""
    more = ("--root", "person", "--where", condition)
    source = scene.server.url("origin")
    scene.refuses(REFUSED, "--where can't be evaluated", WRITING[condition], source=source, more=more)
    assert scene.server.execute("SELECT count(*) FROM trace", "origin") == [(0,)]
    assert scene.server.execute("SELECT is_called, last_value FROM pet_id_seq", "origin") == [(True, 2)]


def test_what_a_condition_writes_all_the_same_is_not_kept(scene):
    """Large objects were no data to a read-only transaction until PostgreSQL 16."""
    wanted = "read-only transaction" if scene.server.version >= 16 else "has large objects"
    scene.refuses(REFUSED, wanted, more=("--root", "person", "--where", "lo_create(0) > 0"))
    assert scene.server.execute("SELECT count(*) FROM pg_largeobject_metadata", "origin") == [(0,)]


@pytest.mark.parametrize("condition", some(NO_SQL, 3))
def test_a_condition_that_does_not_fit(scene, condition):
    scene.refuses(REFUSED, NO_SQL[condition], more=("--root", "person", "--where", condition))


IDS = {
    ("seven", "--root", "pet"): "'seven' can't be a key of pet: id holds integers of 32 bits",
    ("2147483648", "--root", "pet"): "integers of 32 bits",
    ("9", "--root", "pet"): "pet row 9 not found in source database",
    ("anna", "--root", "person"): "'anna' is the beginning of several keys of person: anna-1, anna-2",
    ("ann", "--root", "person"): "4 characters or more",
    ("carl-1", "--root", "person"): "person row carl-1 not found",
    ("a0eebc999c0b", "--root", "tag"): "is the beginning of several keys of tag",
    ("no-uuid", "--root", "tag"): "not found",
    ("1", "--root", "seat"): "can't be chosen by id: it has a composite primary key",
    ("1", "--root", "trace"): "can't be chosen by id: it has no primary key",
    ("1", "--root", "nowhere"): "nowhere",
    ("anna-1\x01", "--root", "person"): "not found",
}


@pytest.mark.parametrize("choice", some(IDS, 2), ids=" ".join)
def test_an_id_that_does_not_fit(scene, choice):
    scene.refuses(REFUSED, IDS[choice], more=choice)


# Rights that somebody took away


TELLING = ("ALTER ROLE keeper IN DATABASE {} SET", "ALTER DATABASE {} SET")


@pytest.mark.parametrize("told", some(TELLING, 2))
def test_a_database_that_is_told_to_be_read_only_is_a_source(apart, told):
    """Who reads for a living is often told so; a target, where somebody said that, is left alone."""
    setting = "default_transaction_read_only = on"
    apart.server.execute(f"{told.format('apart')} {setting}")
    done = apart.call("export", apart.source, apart.target, *ANNA)
    assert done.exit_code == 0, done.output
    apart.server.drop("goal")
    apart.server.create(name="goal")
    apart.server.execute("ALTER DATABASE goal OWNER TO keeper")
    apart.server.execute(f"{told.format('goal')} {setting}")
    apart.refuses(REFUSED, apart.here("goal"), "read-only transaction", "default_transaction_read_only")


def test_a_user_that_may_write_nowhere_makes_no_database(apart):
    version = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
    apart.server.execute(f"{version}; INSERT INTO alembic_version VALUES ('{application.HEAD}')", "apart")
    application.write_application(Path.cwd(), {}, url=apart.source)
    apart.server.execute("ALTER ROLE keeper SET default_transaction_read_only = on")
    try:
        apart.refuses(REFUSED, apart.here("goal"), "read-only transaction", "default_transaction_read_only")
        done = apart.call("drift", apart.source, "-c", "alembic.ini")
        complains(done, REFUSED, apart.here(), "read-only transaction", "default_transaction_read_only")
    finally:
        apart.server.execute("ALTER ROLE keeper RESET default_transaction_read_only")

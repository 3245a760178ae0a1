"""Faults on PostgreSQL: whatever is cut, ended, killed, locked or full, the target is as promised, the report true."""

import itertools
import re
import signal
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from psycopg import pq

import postgresql_faults as faults
import servers
import wire
from panicdb import errors
from panicdb.backends.postgresql import commits, definitions
from panicdb.backends.postgresql.addresses import read_address
from panicdb.values import Monitor
from postgresql_faults import (
    DONE,
    FAILED,
    INTERRUPTED,
    KINDS,
    REFUSED,
    UNKNOWN,
    WAYS,
    Scene,
    State,
)
from postgresql_faults_worker import Worker
from seeds import some_of

COMPLETE = State("complete", marked=False, drafts=0)
BEFORE = {
    "new": State("absent", marked=False, drafts=0),
    "given": State("empty", marked=False, drafts=0),
    "standing": State("schema", marked=False, drafts=0),
}
SHARES = 4


@pytest.fixture(scope="module")
def kept(postgres, tmp_path_factory):
    """Make a scene of each kind that tests share: those that change no source.

    Their runs find a pg_dump that read once and answers always: they need not read anew each time.
    """
    recording = str(faults.record_definitions(postgres, tmp_path_factory.mktemp("definitions")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(definitions.VARIABLE, recording)
        with faults.scenes(postgres, KINDS) as scenes:
            yield recording, scenes


@pytest.fixture
def scenes(kept, monkeypatch):
    recording, made = kept
    monkeypatch.setenv(definitions.VARIABLE, recording)
    for each in made.values():
        each.ready()
    return made


@pytest.fixture
def scene(scenes):
    return scenes["new"]


@pytest.fixture(params=[*KINDS[:2], pytest.param(KINDS[2], marks=pytest.mark.prove)])
def each_scene(scenes, request):
    return scenes[request.param]


@pytest.fixture
def dumping(postgres, monkeypatch):
    """Let runs find the server's own pg_dump."""
    monkeypatch.setenv(definitions.VARIABLE, str(postgres.binaries / "pg_dump"))


@pytest.fixture
def tidy(postgres):
    with postgres.tidying():
        yield postgres


def complains(ended, code, *fragments):
    assert ended.code == code, ended
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["error", "hint"], ended
    for fragment in fragments:
        assert fragment in ended.stderr, ended


# 10, 11: a connection that is cut, at every message


@pytest.mark.fault(10, 11)
def test_a_connection_cut_at_some_messages(scenes, record_property):
    """Two of each way and each sender, over all kinds of target; the campaign has them all."""
    done = 0
    problems: list[str] = []
    for number, way in enumerate(WAYS):
        scene = scenes[KINDS[number % len(KINDS)]]
        messages = faults.telling(faults.count_messages(scene, way), ends=False)
        chosen = faults.spread(messages, 4)[1:3]
        actions = list(zip(("cut", "drop"), chosen, strict=True))
        fired, found = faults.campaign(scene, way, actions)
        done += fired
        problems += found
    assert problems == []
    assert done == 2 * len(WAYS)
    record_property(
        "figures", f"{scenes['new'].server.name}: connections cut at {done} messages, as promised each time"
    )


def thinned(scene, items):
    """On the second kind of server, do every fifth of what was done on the first: the protocol is the same."""
    some = some_of(items)
    return some if scene.server.name == servers.choose()[0] else some[::5]


@pytest.mark.prove
@pytest.mark.fault(10, 11, 12)
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_connection_cut_at_every_message(scene, record_property, way, share):
    """At rows between the first and the last of a result nothing is decided, nor at a session's settings."""
    messages = faults.telling(faults.count_messages(scene, way), ends=way.side == "source")
    messages = thinned(scene, messages)
    actions = [("cut", message) for message in messages[share::SHARES]]
    actions += [("drop", message) for message in messages[share :: 12 * SHARES]]
    actions += [("delay", message) for message in messages[share :: 24 * SHARES]]
    done, problems = faults.campaign(scene, way, actions)
    assert problems == []
    assert done >= len(actions) - 1
    record_property(
        "figures", f"{scene.server.name}: {way}: harm at {done} of {len(messages)} messages, share {share}"
    )


@pytest.mark.prove
@pytest.mark.fault(11, 12)
@pytest.mark.parametrize("way", WAYS[2:], ids=str)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_connection_to_a_given_target_cut_at_many_messages(scenes, record_property, kind, way):
    scene = scenes[kind]
    messages = faults.telling(faults.count_messages(scene, way), ends=True)
    actions = [("cut", message) for message in [*thinned(scene, messages)[::4], *messages[-12:]]]
    done, problems = faults.campaign(scene, way, actions)
    assert problems == []
    assert done >= len(actions) - 1
    record_property("figures", f"{scene.server.name}: {kind}: {way}: cut at {done} messages")


def dump(url, version):
    """Let pg_dump read the definitions, as a run does."""
    try:
        return definitions.dump_definitions(read_address(url), version, Monitor())
    except errors.PanicDBError as error:
        return error


@pytest.mark.parametrize("every", [pytest.param(3, marks=pytest.mark.prove), 40])
@pytest.mark.fault(10)
def test_pg_dump_that_loses_its_connection_is_believed_nothing(tidy, dumping, every):
    with closing(tidy.connect(tidy.create(faults.SCHEMA, "source").rsplit("/", 1)[1])):
        with wire.Proxy(tidy) as proxy:
            whole = dump(proxy.url("source"), tidy.version)
            proxy.settle()
        assert isinstance(whole, definitions.Definitions)
        for sender in (wire.CLIENT, wire.SERVER):
            messages = [each for each in proxy.messages if each.sender == sender]
            for message in faults.telling(messages, ends=True)[::every]:
                with wire.Proxy(tidy) as harmed:
                    harmed.cut(message.number, sender)
                    result = dump(harmed.url("source"), tidy.version)
                assert harmed.fired
                if isinstance(result, errors.PanicDBError):
                    assert result.exit_code == FAILED, result.message
                    assert "the connection" in result.message
                    assert tidy.password not in f"{result.message}{result.hint}"
                else:  # it had said that it was leaving
                    assert result == whole


# 12: the answer to COMMIT, or to the last step, never comes


def commit_of(scene, what):
    """Say which COMMIT of a run on the target's way is that of the rows, and which that of the rename: as (how many
    answers of that tag, number of the client's message that asked for it).
    """
    scene.ready()
    with faults.by_proxy(scene, "target") as (proxy, run):
        assert run().code == DONE
        proxy.settle()
    scene.ready()
    answers = [place for place, message in enumerate(proxy.messages) if message.tag == "COMMIT"]
    number = len(answers) - (scene.kind == "new" and what == "rows")
    asked = [m.number for m in proxy.messages[: answers[number - 1]] if m.sender == wire.CLIENT]
    return number, max(asked)


@pytest.mark.fault(12)
def test_a_commit_whose_answer_is_lost_is_reported_as_what_it_was(each_scene):
    """Rows are there, and that is what is said."""
    scene = each_scene
    answer, _ = commit_of(scene, "rows")
    with faults.by_proxy(scene, "target") as (proxy, run):
        proxy.drop(answer, tag="COMMIT")
        ended = run()
        assert [message.tag for _, message in proxy.fired] == ["COMMIT"]
    assert ended.code == DONE, ended
    assert scene.judge(ended) == []
    assert scene.left == COMPLETE


@pytest.mark.fault(12)
def test_a_commit_that_never_arrives_is_reported_as_a_failure(each_scene):
    scene = each_scene
    _, question = commit_of(scene, "rows")
    with faults.by_proxy(scene, "target") as (proxy, run):
        proxy.drop(question, wire.CLIENT)
        ended = run()
    complains(
        ended, FAILED, "the connection was lost at the commit", "did not commit", "nothing was published"
    )
    assert scene.judge(ended) == []
    assert scene.left == BEFORE[scene.kind]


@pytest.mark.fault(12)
def test_a_commit_whose_outcome_can_t_be_asked_is_reported_as_that(each_scene, monkeypatch):
    """The server stays out of reach."""
    scene = each_scene
    monkeypatch.setattr(commits, "SECONDS_TO_ASK", 0.5)
    answer, _ = commit_of(scene, "rows")
    with faults.by_proxy(scene, "target") as (proxy, run):
        proxy.drop(answer, tag="COMMIT", widely=True, lastingly=True)
        ended = run()
    complains(ended, FAILED, UNKNOWN, "holds everything, or no row", "panicdb verify")
    assert scene.judge(ended) == []
    assert scene.left is not None
    assert scene.left.target == ("absent" if scene.kind == "new" else "complete")
    assert scene.left.drafts == (scene.kind == "new")


@pytest.mark.fault(12)
def test_a_rename_whose_answer_is_lost_is_reported_as_what_it_was(scene):
    answer, _ = commit_of(scene, "rename")
    with faults.by_proxy(scene, "target") as (proxy, run):
        proxy.drop(answer, tag="COMMIT")
        ended = run()
        assert proxy.fired
    assert ended.code == DONE, ended
    assert scene.state() == COMPLETE


@pytest.mark.fault(12)
def test_a_rename_whose_outcome_can_t_be_asked_is_reported_as_that(scene):
    answer, _ = commit_of(scene, "rename")
    with faults.by_proxy(scene, "target") as (proxy, run):
        proxy.drop(answer, tag="COMMIT", widely=True, lastingly=True)
        ended = run()
    complains(ended, FAILED, UNKNOWN, "complete under its name, or not there")
    assert scene.state() == COMPLETE


@pytest.mark.fault(12)
@pytest.mark.parametrize("last", ["ALTER DATABASE", "COMMIT"])
def test_a_rename_that_never_happens_is_reported_as_a_failure(scene, last):
    """The answer to the statement is lost, and with it the connection; or the COMMIT that it needs."""
    _, question = commit_of(scene, "rename")
    with faults.by_proxy(scene, "target") as (proxy, run):
        if last == "COMMIT":
            proxy.drop(question, wire.CLIENT)
        else:
            proxy.drop(tag=last)
        ended = run()
        assert proxy.fired
    complains(ended, FAILED, "the connection to the server was lost while publishing")
    assert scene.judge(ended) == []
    assert scene.left == BEFORE["new"]


@pytest.mark.fault(12)
def test_a_late_answer_to_a_commit_is_waited_for(each_scene):
    scene = each_scene
    with faults.by_proxy(scene, "target") as (proxy, run):
        proxy.delay(1.0, tag="COMMIT")
        ended = run()
        assert proxy.fired
    assert (ended.code, scene.state()) == (DONE, COMPLETE)


# 10, 11: sessions that are ended


def end_sessions(scene, number):
    """Return what ends, at a step, one of the sessions there are of ours."""

    def act(step):
        if step.number == number:
            ended = scene.ask(
                "SELECT pg_terminate_backend(pid, 5000) FROM (SELECT pid FROM pg_stat_activity "
                "WHERE application_name = 'panicdb' ORDER BY backend_start OFFSET %s LIMIT 1) AS s",
                (ended_place[0],),
            )
            happened.append(bool(ended))

    ended_place, happened = [0], []
    return act, ended_place, happened


def terminate(scene, step, place):
    scene.ready()
    act, places, happened = end_sessions(scene, step.number)
    places[0] = place
    with faults.at_every_step(act):
        ended = scene.run()
    assert len(happened) <= 1
    problems = [f"session {place} ended at {step}: {problem}" for problem in scene.judge(ended)]
    return problems, happened == [True]


def terminate_at(scene, steps):
    problems, count = [], 0
    for step in steps:
        for place in range(3):
            found, happened = terminate(scene, step, place)
            problems += found
            count += happened
            if not happened:  # there were not so many
                break
    return problems, count


@pytest.mark.fault(10, 11)
def test_sessions_that_are_ended_at_some_steps(scene):
    steps = faults.steps_of(scene)
    problems, count = terminate_at(scene, faults.spread(steps, 5)[1:4])
    assert problems == []
    assert count >= 4


@pytest.mark.prove
@pytest.mark.fault(10, 11)
@pytest.mark.parametrize("kind", KINDS)
def test_sessions_that_are_ended_at_many_steps(scenes, record_property, kind):
    scene = scenes[kind]
    problems, count = terminate_at(scene, thinned(scene, faults.spread(faults.steps_of(scene), 16)))
    assert problems == []
    record_property("figures", f"{scene.server.name}: {kind}: {count} sessions ended")


# 13: the server crashes, or is started anew


@contextmanager
def private_scene(postgres, kind, tmp_path, monkeypatch):
    """Make a scene on a server of its own, which may be stopped."""
    with servers.KINDS[postgres.name]() as server:
        monkeypatch.setenv(definitions.VARIABLE, str(faults.record_definitions(server, tmp_path)))
        with Scene(server, kind, "it") as scene:
            yield scene


def crash_at(scene, step, mode):
    def act(now):
        if now.number == step.number:
            scene.server.restart(mode)

    scene.ready()
    with faults.at_every_step(act):
        ended = scene.run()
    return [f"restarted ({mode}) at {step}: {problem}" for problem in scene.judge(ended)], ended


@pytest.mark.fault(13)
def test_a_server_that_crashes(postgres, tmp_path, monkeypatch):
    with private_scene(postgres, "new", tmp_path, monkeypatch) as scene:
        steps = faults.steps_of(scene)
        loading = next(step for step in steps if step.where.startswith("load."))
        problems, ended = crash_at(scene, loading, "immediate")
        assert problems == []
        complains(ended, FAILED, "the connection to the server was lost")
        planning = next(step for step in steps if step.where.startswith("snapshot."))
        problems, ended = crash_at(scene, planning, "fast")
        assert problems == []
        assert ended.code in (REFUSED, FAILED)


@pytest.mark.fault(13, 12)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_server_that_crashes_when_it_has_committed(postgres, tmp_path, monkeypatch, kind):
    """It is asked when it is there again."""
    with private_scene(postgres, kind, tmp_path, monkeypatch) as scene:
        answer, _ = commit_of(scene, "rows")
        with faults.by_proxy(scene, "target") as (proxy, run):
            proxy.stall(answer, tag="COMMIT")

            def crash():
                while not proxy.fired:
                    time.sleep(0.01)
                scene.server.stop("immediate")
                faults.sever(proxy)
                scene.server.start()

            crashing = threading.Thread(target=crash)
            crashing.start()
            ended = run()
            crashing.join()
        assert ended.code == DONE, ended
        assert scene.state() == COMPLETE


@pytest.mark.prove
@pytest.mark.fault(13)
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_crashes_at_many_steps(postgres, tmp_path, monkeypatch, kind):
    with private_scene(postgres, kind, tmp_path, monkeypatch) as scene:
        chosen = thinned(scene, faults.spread(faults.steps_of(scene), 12))
        problems = [crash_at(scene, step, "immediate")[0] for step in chosen]
        problems += [crash_at(scene, step, "fast")[0] for step in chosen[::4]]
    assert list(itertools.chain(*problems)) == []


# 1-4, 26: runs that are killed or interrupted


@pytest.fixture
def worker(tmp_path):
    with Worker(tmp_path) as started:
        yield started


def steps_told(scene, worker):
    """Run once undisturbed in the worker; return the steps as they are told."""
    scene.ready()
    told = worker.run(scene.arguments())
    assert told.ended.code == DONE, told
    assert told.left == ()
    scene.ready()
    return told.steps


def strike(scene, worker, number, at):
    scene.ready()
    told = worker.run(scene.arguments(), number, at)
    problems = scene.judge(told.ended)
    if number == signal.SIGINT and told.ended.code != DONE:
        if told.ended.code != INTERRUPTED or "interrupted by SIGINT" not in told.ended.stderr:
            problems.append(f"interrupted: {told.ended}")
        if told.left:
            problems.append("a private directory is left")
        if scene.left != BEFORE[scene.kind]:
            problems.append(f"not cleaned up: {scene.left}")
    if number == signal.SIGKILL and told.ended.code != -signal.SIGKILL:
        problems.append(f"not killed: {told.ended}")
    return [
        f"{signal.Signals(number).name} at {told.steps[-1] if told.steps else at}: {each}"
        for each in problems
    ]


def first_of_each_place(steps):
    """Number, of the steps at each line of the code in each database, the first and the last."""
    found: dict[str, list[int]] = {}
    for number, step in enumerate(steps, 1):
        found.setdefault(re.sub(r"^\d+ |__panicdb_\w+", "", step), []).append(number)
    return sorted({number for numbers in found.values() for number in (numbers[0], numbers[-1])})


@pytest.mark.fault(1, 3, 4)
def test_a_run_that_is_killed_at_some_steps(scenes, worker):
    problems: list[str] = []
    for scene in scenes.values():
        count = len(steps_told(scene, worker))
        for at in faults.spread(range(1, count + 1), 4)[1 + (scene.kind != "new") :]:
            problems += strike(scene, worker, signal.SIGKILL, at)
    assert problems == []


@pytest.mark.prove
@pytest.mark.fault(1, 3, 4)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_at_every_step(scenes, record_property, worker, kind):
    scene = scenes[kind]
    steps = steps_told(scene, worker)
    chosen = thinned(scene, first_of_each_place(steps))
    problems = [problem for at in chosen for problem in strike(scene, worker, signal.SIGKILL, at)]
    assert problems == []
    record_property(
        "figures",
        f"{scene.server.name}: {kind}: killed at {len(chosen)} of {len(steps)} steps, in every line",
    )


@pytest.mark.fault(26)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_run_that_is_interrupted_cleans_up(scenes, worker, kind):
    scene = scenes[kind]
    count = len(steps_told(scene, worker))
    chosen = faults.spread(range(1, count + 1), 6)[2:4]
    problems = [problem for at in chosen for problem in strike(scene, worker, signal.SIGINT, at)]
    assert problems == []


@pytest.mark.prove
@pytest.mark.fault(26)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_interrupted_at_many_steps_cleans_up(scenes, worker, kind):
    scene = scenes[kind]
    chosen = thinned(scene, first_of_each_place(steps_told(scene, worker))[::3])
    problems = [problem for at in chosen for problem in strike(scene, worker, signal.SIGINT, at)]
    assert problems == []


# 8, 9: the source is changed while it is read


ACCOUNTS = """
CREATE TABLE account (id int PRIMARY KEY, cents int NOT NULL, note text DEFAULT 'x');
CREATE TABLE pocket (id int PRIMARY KEY REFERENCES account, cents int NOT NULL);
CREATE TABLE entry (id serial PRIMARY KEY, account_id int REFERENCES account, text text);
INSERT INTO account SELECT i, 100 FROM generate_series(1, 20) AS i;
INSERT INTO pocket SELECT i, 50 FROM generate_series(1, 20) AS i;
INSERT INTO entry (account_id, text) SELECT i, 'first' FROM generate_series(1, 20) AS i;
"""
WHOLE = ("--schema", "copy")
CHANGES = {
    "truncate": "TRUNCATE pocket",
    "retype": "ALTER TABLE pocket ALTER COLUMN cents TYPE bigint USING cents * 2",
    "drop": "DROP TABLE entry",
    "drop column": "ALTER TABLE account DROP COLUMN note",
}
SOME_CHANGES = [
    pytest.param(change, marks=[] if change in ("truncate", "drop column") else pytest.mark.prove)
    for change in CHANGES
]


def change_at(scene, change, number):
    """Clone while another session changes the schema at one gap; return what became of both."""
    happened = []

    def act(step):
        if step.number == number:
            happened.append(faults.quietly(other, change))

    scene.renew()
    before = scene.source_content()
    hurried = scene.server.connect(scene.source, options="-c lock_timeout=5ms")
    with closing(hurried) as other, faults.at_every_step(act):
        ended = scene.run()
    after = scene.source_content()
    scene.wait_for_sessions()
    if ended.code != DONE:
        return [f"refused: {ended}"], happened
    there = scene.content()
    found = [] if there in (before, after) else [f"a mixture: {there}"]
    if happened == ["blocked"] and before != after:
        found.append("blocked and done")
    return found, happened


def gaps_of(scene):
    """Return the steps of a clone, and which of them is the first after all tables are locked."""
    scene.renew()
    steps = faults.steps_of(scene)
    locked = next(step.number for step in steps if step.where.startswith("snapshot._lock"))
    return steps, locked + 1


@pytest.mark.fault(9)
@pytest.mark.parametrize("change", SOME_CHANGES)
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.prove), 60])
def test_a_schema_that_is_changed_before_it_is_locked_is_read_before_or_after(tidy, dumping, change, every):
    """Whichever gap before a statement of ours there it comes in, up to the lock."""
    with Scene(tidy, "new", "it", choice=WHOLE, script=ACCOUNTS) as scene:
        steps, locked = gaps_of(scene)
        before = [step.number for step in steps if step.database == scene.source and step.number < locked]
        gaps = sorted({*before[::every], *before[-2:]})
        outcomes = {gap: change_at(scene, CHANGES[change], gap) for gap in gaps}
    assert {gap: problems for gap, (problems, _) in outcomes.items() if problems} == {}
    assert all(happened == ["done"] for _, happened in outcomes.values()), outcomes


@pytest.mark.fault(9)
@pytest.mark.parametrize("change", SOME_CHANGES)
def test_a_schema_is_locked_at_every_gap_while_it_is_read(tidy, dumping, change):
    """From the first statement after the lock to the last row."""
    tried = []
    with Scene(tidy, "new", "it", choice=WHOLE, script=ACCOUNTS) as scene:
        _, locked = gaps_of(scene)
        before = scene.source_content()

        def act(step):
            over.append(
                step.where.startswith(("publish.finish", "publish._restore"))
            )  # all rows have been read
            if step.number >= locked and not any(over):
                tried.append(faults.quietly(other, CHANGES[change]))

        over: list[bool] = []
        hurried = scene.server.connect(scene.source, options="-c lock_timeout=1ms")
        with closing(hurried) as other, faults.at_every_step(act):
            ended = scene.run()
        assert ended.code == DONE, ended
        assert scene.content() == before == scene.source_content()
    assert len(tried) > 50
    assert set(tried) == {"blocked"}


@pytest.mark.fault(9)
@pytest.mark.parametrize("every", [pytest.param(8, marks=pytest.mark.prove), 90])
def test_a_table_that_is_made_while_others_are_read(tidy, dumping, every):
    """Nothing keeps it from coming; the copy is of before or of after, or there is none."""
    with Scene(tidy, "new", "it", choice=WHOLE, script=ACCOUNTS) as scene:
        steps, _ = gaps_of(scene)
        for step in steps[::every]:
            problems, happened = change_at(
                scene,
                "CREATE TABLE late AS SELECT 1 AS id; CREATE VIEW later AS SELECT * FROM account",
                step.number,
            )
            assert happened == ["done"]
            if problems:
                assert problems[0].startswith(f"refused: exit {FAILED}"), (step, problems)
                assert "changed its schema meanwhile" in problems[0], (step, problems)
                assert scene.state() == BEFORE["new"]


MOVES = (
    "UPDATE account SET cents = cents - 1 WHERE id = {0}",
    "UPDATE pocket SET cents = cents + 1 WHERE id = {0}",
    "INSERT INTO entry (account_id, text) VALUES ({0}, 'moved one cent')",
    "DELETE FROM entry WHERE text = 'first' AND account_id = {0}",
)
SUMS = "SELECT (SELECT sum(cents) FROM account) + (SELECT sum(cents) FROM pocket)"
STAND = "SELECT (SELECT sum(cents) FROM account), (SELECT count(*) FROM entry)"


@pytest.mark.fault(8)
@pytest.mark.parametrize("way", ["clone", "export"])
def test_what_is_written_at_every_gap_is_there_as_of_one_moment(tidy, dumping, way):
    choice = WHOLE if way == "clone" else ("--all", "--root", "account", *WHOLE)
    numbers = itertools.count()
    with Scene(tidy, "new", "it", choice=choice, script=ACCOUNTS) as scene:
        with closing(scene.server.connect(scene.source, options="-c lock_timeout=1s")) as other:
            stands = set(other.execute(STAND).fetchall())

            def act(_step):
                account = next(numbers) % 20 + 1
                other.execute("BEGIN; " + "; ".join(each.format(account) for each in MOVES) + "; COMMIT")
                stands.update(other.execute(STAND).fetchall())

            with faults.at_every_step(act):
                ended = scene.run()
        assert ended.code == DONE, ended
        assert next(numbers) > 100
        with closing(tidy.connect(scene.target)) as target:
            assert target.execute(SUMS).fetchall() == [(20 * 150,)]
            assert set(target.execute(STAND).fetchall()) <= stands
            assert target.execute(
                "SELECT count(*) FROM entry e LEFT JOIN account a ON a.id = e.account_id WHERE a.id IS NULL"
            ).fetchall() == [(0,)]


# 7, 25: locks and timeouts


@pytest.mark.fault(7)
@pytest.mark.parametrize("seconds", ["0", "0.5"])
def test_a_table_that_somebody_locks_is_waited_for_as_long_as_asked(scene, seconds):
    with closing(scene.server.connect(scene.source, application_name="an upgrade")) as holder:
        holder.execute("BEGIN; LOCK TABLE node IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        ended = scene.run(None, None, "--timeout", seconds)
        waited = time.monotonic() - began
        complains(
            ended, REFUSED, "locked: node by process", str(holder.info.backend_pid), "an upgrade", "--timeout"
        )
    assert float(seconds) <= waited < float(seconds) + 10
    assert scene.state() == BEFORE["new"]
    assert scene.run().code == DONE


@pytest.mark.fault(7)
def test_a_lock_on_a_table_of_the_source_that_goes_in_time_does_not_matter(scene):
    with closing(scene.server.connect(scene.source)) as holder:
        holder.execute("BEGIN; LOCK TABLE node IN ACCESS EXCLUSIVE MODE")
        releasing = threading.Timer(0.5, holder.execute, ["COMMIT"])
        releasing.start()
        ended = scene.run(None, None, "--timeout", "20")
        releasing.join()
    assert ended.code == DONE, ended


TIMEOUTS = {
    "statement_timeout": "400ms",
    "idle_in_transaction_session_timeout": "400ms",
    "idle_session_timeout": "400ms",
    "lock_timeout": "400ms",
}
SLOWLY = ("--root", "owner", "--where", "id = 1 AND (SELECT true FROM pg_sleep(0.6))", "--schema", "copy")


@pytest.mark.fault(25)
def test_timeouts_of_a_role_end_no_run(tidy, dumping):
    """Statements and pauses that take longer than each of them."""
    tidy.execute("CREATE ROLE hurried LOGIN SUPERUSER PASSWORD 'hurry'")
    for name, value in TIMEOUTS.items():
        tidy.execute(f"ALTER ROLE hurried SET {name} = '{value}'")
    with Scene(tidy, "new", "it") as scene:
        paused = []

        def pause(step):
            settled = step.session.pgconn.transaction_status != pq.TransactionStatus.IDLE
            if settled and step.where not in paused and len(paused) < 4:
                paused.append(step.where)
                time.sleep(0.6)

        urls = [tidy.url(name, "hurried", "hurry") for name in (scene.source, scene.target)]
        slow = replace(scene, choice=SLOWLY)
        with faults.at_every_step(pause):
            ended = slow.run(*urls)
        assert ended.code == DONE, ended
        assert len(paused) == 4
        assert scene.state() == COMPLETE


@pytest.mark.fault(25)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_timeout_that_ends_a_session_is_named(scene, side):
    """Somebody sets it for this very session."""
    hurried = []

    def hurry(step):
        waits = step.session.pgconn.transaction_status == pq.TransactionStatus.INTRANS
        if not hurried and waits and step.database.startswith(getattr(scene, side)):
            hurried.append(step.where)
            step.session.pgconn.exec_(b"SET idle_in_transaction_session_timeout = '50ms'")
            time.sleep(0.5)

    with faults.at_every_step(hurry):
        ended = scene.run()
    assert hurried
    complains(ended, FAILED, "idle_in_transaction_session_timeout", getattr(scene, side))
    assert scene.judge(ended) == []
    assert scene.left == BEFORE["new"]


SLOW_INDEX = """
CREATE FUNCTION slow(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
    IF pg_catalog.current_setting('panicdb.slow', true) = 'on' THEN PERFORM pg_catalog.pg_sleep(30); END IF; RETURN i;
END $$;
CREATE INDEX slowly ON node (slow(id));
"""
SLEEPING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@pytest.mark.fault(25)
def test_a_statement_that_somebody_cancels_is_told(tidy, dumping):
    with Scene(tidy, "new", "it", script=faults.SCHEMA + faults.ROWS + SLOW_INDEX) as scene:

        def cancel():
            for _ in range(1000):
                if scene.ask(f"SELECT pg_cancel_backend(pid) FROM ({SLEEPING}) AS s"):
                    break
                time.sleep(0.02)

        cancelling = threading.Thread(target=cancel)
        tidy.execute("ALTER ROLE postgres SET panicdb.slow = 'on'")
        try:
            cancelling.start()
            ended = scene.run()
            cancelling.join()
        finally:
            tidy.execute("ALTER ROLE postgres RESET panicdb.slow")
        complains(
            ended, FAILED, "canceling statement due to user request", "the server cancelled the statement"
        )
        assert scene.judge(ended) == []
        assert scene.left == BEFORE["new"]


# 23, 24: what a role may not see


@pytest.mark.fault(23)
@pytest.mark.parametrize("command", ["export", "clone"])
def test_a_source_that_row_security_filters_is_refused(tidy, dumping, command):
    """One row of the two would be hidden, and the copy would look complete."""
    choice = faults.CHOICE if command == "export" else WHOLE
    with Scene(tidy, "new", "it", choice=choice) as scene:
        tidy.execute("CREATE ROLE filtered LOGIN CREATEDB PASSWORD 'f'; GRANT pg_read_all_data TO filtered")
        tidy.execute("ALTER TABLE owner ENABLE ROW LEVEL SECURITY", scene.source)
        tidy.execute("CREATE POLICY ann ON owner USING (name = 'ann')", scene.source)
        ended = scene.run(*(tidy.url(name, "filtered", "f") for name in (scene.source, scene.target)))
        complains(ended, REFUSED, "row security would hide rows", "owner", "BYPASSRLS")
        assert scene.state() == BEFORE["new"]


@pytest.mark.fault(24)
def test_privileges_that_are_missing_are_named_in_one_list(tidy, dumping):
    with Scene(tidy, "new", "it") as scene:
        tidy.execute("CREATE ROLE limited LOGIN CREATEDB PASSWORD 'l'")
        tidy.execute("GRANT SELECT ON owner, tag TO limited", scene.source)
        ended = scene.run(*(tidy.url(name, "limited", "l") for name in (scene.source, scene.target)))
        lacking = [f"SELECT on table {name}" for name in ("log", "node", "node_tag")]
        complains(ended, REFUSED, "lacks privileges", *lacking)
        assert "SELECT on table owner" not in ended.stderr
        assert scene.state() == BEFORE["new"]


# 29: two at once


TOO_LATE = "makes it just now|exists and holds rows|appeared while|somebody holds a lock"


@pytest.mark.fault(29)
@pytest.mark.parametrize("rounds", [pytest.param(16, marks=pytest.mark.prove), 2])
def test_of_two_runs_to_one_database_one_wins(scenes, tmp_path, rounds):
    """In twice as many rounds a new one, as a given one."""
    with Worker(tmp_path) as one, Worker(tmp_path) as other:
        for scene in scenes.values():
            for number in range(rounds if scene.kind == "new" else rounds // 2):
                scene.ready()
                one.order(scene.arguments())
                time.sleep((number % 10) / 20)
                other.order(scene.arguments())
                ends = [each.answer().ended for each in (one, other)]
                assert sorted(each.code for each in ends) == [DONE, REFUSED], ends
                assert scene.state() == COMPLETE
                (loser,) = (each for each in ends if each.code == REFUSED)
                complains(loser, REFUSED)
                assert re.search(TOO_LATE, loser.stderr), loser


def fill_meanwhile(scene, fill, where):
    """Export while somebody else fills the target, at the first step of ours at a place in the code."""
    happened = []

    def act(step):
        if not happened and where in step.where:
            happened.append(step)
            fill()

    with faults.at_every_step(act):
        ended = scene.run()
    assert happened
    return ended


@pytest.mark.fault(14, 29)
@pytest.mark.parametrize("where", ["snapshot._lock", "databases._rename"])
def test_a_database_that_appears_meanwhile_is_left_alone(scene, where):
    ended = fill_meanwhile(scene, lambda: scene.server.create(scene.script, scene.target), where)
    complains(
        ended, REFUSED, "exists and holds rows" if "_lock" in where else "appeared while the copy was made"
    )
    assert scene.content() == scene.source_content()
    assert scene.drafts() == []


@pytest.mark.fault(14, 29)
@pytest.mark.parametrize("where", ["snapshot._lock", "publish.stands", "publish.load"])
def test_rows_that_somebody_writes_into_a_given_database_meanwhile_are_left_alone(scenes, where):
    scene = scenes["standing"]

    def fill():
        scene.server.execute("INSERT INTO owner (name) VALUES ('theirs')", scene.target)

    ended = fill_meanwhile(scene, fill, where)
    assert ended.code in (REFUSED, FAILED), ended
    assert "Traceback" not in ended.stderr
    with closing(scene.server.connect(scene.target)) as session:
        assert session.execute("SELECT name FROM owner").fetchall() == [("theirs",)]
        assert session.execute("SELECT count(*) FROM node").fetchall() == [(0,)]


# 6: no room


BIG = """
CREATE TABLE big (id int PRIMARY KEY, body text);
INSERT INTO big SELECT i, (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 60) AS j)
FROM generate_series(1, 15000) AS i;
"""


@pytest.mark.fault(6)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_full_disk_of_the_server_publishes_nothing(tidy, dumping, kind):
    tidy.create(BIG, "source_of_much")
    small = servers.KINDS[tidy.name](room="40m")
    with small as server, closing(Scene(server, kind, "it", choice=WHOLE, source_server=tidy)) as scene:
        scene.ready()
        ended = scene.run(tidy.url("source_of_much"))
        complains(ended, FAILED, "the disk of the server is full", "nothing was published")
        assert scene.state() == BEFORE[kind]

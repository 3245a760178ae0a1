"""The digest is what docs/digest.md says, whatever the order; and what differs in the least has another one."""

import re
import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicdb import contents, databases
from panicdb.digest import MODULUS, TableDigest, digest_rows, encode, row_hash
from panicdb.values import Monitor

pytestmark = pytest.mark.quick

PAGE = Path(__file__).resolve().parent.parent / "docs" / "digest.md"
VECTORS = {
    "nothing": [],
    "NULL, NULL": [(None, None)],
    "1, 'x'": [(1, "x")],
    "1.0, 'x'": [(1.0, "x")],
    "'1', x'78'": [("1", b"x")],
    "'ab', 'c'": [("ab", "c")],
    "'a', 'bc'": [("a", "bc")],
    "-1, 9223372036854775807": [(-1, 2**63 - 1)],
    "'', 'grüße'": [("", "grüße")],
    "text of the byte ff, -0.0": [("\udcff", -0.0)],
    "1, 'x' twice": [(1, "x"), (1, "x")],
    "1, 'x' and 1.0, 'x'": [(1, "x"), (1.0, "x")],
}


def by_the_page(encoded):
    """Compute a digest from nothing but what the page says."""
    start = bytes.fromhex("92 a1 74 92 a1 61 a1 62")
    hashes = [int.from_bytes(blake2b(start + row, digest_size=32).digest(), "big") for row in encoded]
    return f"{sum(hashes) % 2**256:064x}"


def test_the_test_vectors_of_the_page():
    lines = re.findall(
        r"^\| (.*?) \| (.*?) \| (\d+) \| `([0-9a-f]{64})` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for name, *_ in lines] == list(VECTORS)
    for name, encoded, number, total in lines:
        rows = VECTORS[name]
        found = digest_rows("t", ["a", "b"], rows)
        assert (found.rows, str(found)) == (int(number), total)
        assert list(dict.fromkeys(encode(row).hex() for row in rows)) == re.findall("`(.*?)`", encoded)
        assert by_the_page(map(encode, rows)) == total


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.binary(min_size=1).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=6)


@given(rows=ROWS, others=ROWS)
def test_order_plays_no_part_and_parts_add_up(rows, others):
    whole = digest_rows("t", ["a", "b"], [*rows, *others])
    assert whole == digest_rows("t", ["a", "b"], reversed([*rows, *others]))
    assert whole == digest_rows("t", ["a", "b"], rows) + digest_rows("t", ["a", "b"], others)


@given(one=st.tuples(VALUES, VALUES), other=st.tuples(VALUES, VALUES))
def test_rows_are_encoded_alike_only_if_they_are_the_same(one, other):
    same = [(type(a), repr(a)) for a in one] == [(type(a), repr(a)) for a in other]
    assert (encode(one) == encode(other)) is same


def test_duplicates_tables_and_columns_count():
    once, twice = (digest_rows("t", ["a"], [(1,)] * number) for number in (1, 2))
    assert twice == once + once
    assert len({str(each) for each in (once, twice, once + once + once)}) == 3
    assert digest_rows("u", ["a"], [(1,)]) != once
    assert digest_rows("t", ["b"], [(1,)]) != once
    assert (TableDigest(1, MODULUS - 1) + TableDigest(1, 1)).total == 0


def test_columns_have_one_order():
    with pytest.raises(ValueError, match="not sorted"):
        row_hash("t", ["b", "a"])


def test_what_is_stored_counts_and_not_how_it_lies(tmp_path):
    """The same rows under other rowids, another order of columns and rows, another collation and page size."""
    scripts = (
        "CREATE TABLE t (a TEXT, b INTEGER, c AS (b + 1)); INSERT INTO t VALUES ('x', 1), (NULL, 'odd'), ('x', 1);",
        """PRAGMA page_size = 1024; CREATE TABLE t (b INTEGER, c INT AS (b + 2) STORED, a TEXT COLLATE NOCASE);
        INSERT INTO t (rowid, b, a) VALUES (9, 'odd', NULL), (20, 1, 'x'), (7, 1, 'x');""",
        "CREATE TABLE t (a TEXT, b INTEGER); INSERT INTO t VALUES ('X', 1), (NULL, 'odd'), ('x', 1);",
    )
    found = []
    for number, script in enumerate(scripts):
        path = tmp_path / f"{number}.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        with databases.open_source(databases.locate(str(path)), timeout=1, monitor=Monitor()) as snapshot:
            rows = contents.whole_rows(snapshot.catalog.tables["t"])
            found.append(contents.digest(snapshot, rows, Monitor()))
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert {each.rows for each in found} == {3}

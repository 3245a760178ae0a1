"""Seals: what a receipt says of content, so that it alone can prove a file; and the mark that shows an edit."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ormsgpack

from panicdb.digest import BYTES, VERSION, TableDigest
from panicdb.revisions import Route
from panicdb.values import Facts

MARK = "seal"


@dataclass(frozen=True)
class Seal:
    """What a target was when it was made, by digests."""

    schema: str
    """Of all facts of the target's schema."""
    source_schema: str
    """Of the source's, which may differ in what is cosmetic."""
    tables: Mapping[str, TableDigest]
    columns: Mapping[str, tuple[str, ...]]
    """The columns that each table's digest is over, in its order."""
    sequences: Mapping[str, int]
    links: tuple[str, ...]
    """Options of virtual links that hold for all rows, as `--link` spells them."""
    dangling: Mapping[str, int]
    """Rows by the link that leads nowhere in them."""
    migrations: Mapping[str, str]
    """SHA-256 of each file of migrations that the revisions stand for."""
    encoding: int = VERSION

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a receipt."""
        return {
            "encoding": self.encoding,
            "schema": self.schema,
            "source_schema": self.source_schema,
            "tables": {
                name: {"rows": digest.rows, "digest": str(digest), "columns": list(self.columns[name])}
                for name, digest in self.tables.items()
            },
            "sequences": dict(self.sequences),
            "links": list(self.links),
            "dangling": dict(self.dangling),
            "migrations": dict(self.migrations),
        }


def read_seal(data: Mapping[str, Any]) -> Seal:
    """Read what `Seal.as_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    if data["encoding"] != VERSION:
        raise ValueError(data["encoding"])
    tables = {str(name): dict(table) for name, table in data["tables"].items()}
    return Seal(
        schema=str(data["schema"]),
        source_schema=str(data["source_schema"]),
        tables={
            name: TableDigest(int(each["rows"]), int(each["digest"], 16)) for name, each in tables.items()
        },
        columns={name: tuple(map(str, each["columns"])) for name, each in tables.items()},
        sequences={str(name): int(value) for name, value in data["sequences"].items()},
        links=tuple(map(str, data["links"])),
        dangling={str(link): int(count) for link, count in data["dangling"].items()},
        migrations={str(name): str(value) for name, value in data["migrations"].items()},
    )


def digest_facts(facts: Facts) -> str:
    """Digest a schema: BLAKE2b over the MessagePack array of its facts [object, property, value], sorted."""
    plain = sorted(
        [name, aspect, fact.value if isinstance(fact.value, str) else list(fact.value)]
        for (name, aspect), fact in facts.items()
    )
    return hashlib.blake2b(ormsgpack.packb(plain), digest_size=BYTES).hexdigest()


def hash_migrations(route: Route) -> Mapping[str, str]:
    """Hash the files of migrations that a target's revisions stand for, by their names. Reads files."""
    hashes = {}
    for assignment in route.assignments:
        scripts, wanted = assignment.history.scripts, {*assignment.rows}
        for revision in sorted(wanted.union(*map(assignment.history.ancestors, assignment.rows))):
            if revision in scripts:
                file = scripts[revision].file
                hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes


def mark(receipt: Mapping[str, Any]) -> str:
    """Return the mark of a receipt: BLAKE2b over its JSON without the mark, keys sorted, no spaces, ASCII only.

    It shows that something was edited; who wants to deceive can compute it again.
    """
    unmarked = {name: value for name, value in receipt.items() if name != MARK}
    text = json.dumps(unmarked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=BYTES).hexdigest()

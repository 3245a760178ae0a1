"""Receipts: the record of a transfer that lies beside its target, readable without panicdb."""

import datetime
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import panicdb
from panicdb.digest import VERSION
from panicdb.errors import SourceError
from panicdb.links import parse_link
from panicdb.merge import Merged
from panicdb.planner import Plan
from panicdb.seals import MARK, Seal, mark, read_seal
from panicdb.values import Selection, Violations, as_json

FORMAT = 1
_OF_THE_WHOLE = frozenset({"before", "empty", "checks", "sealed", MARK})
"""What a receipt says of its file, and not of the run that it records."""
_WITHOUT_IT = "say which rows to expect: ids, --where SQL or --all"


@dataclass(frozen=True)
class Receipt:
    """What was done. It holds root keys and `--where` text, no other value of a row, and no secret."""

    command: str
    source: str
    source_id: str
    """Tells two sources apart that were named alike, from different directories."""
    target: str
    created: str
    """UTC, for people: nothing is decided by it."""
    revisions: Mapping[str, tuple[str, ...]]
    schema: Mapping[str, Any]
    """method, reason, differences that were met, rows of migrations that were cleared."""
    selection: Selection | None
    root: str | None
    tables: tuple[Mapping[str, Any], ...]
    empty: Mapping[str, int]
    kept: Mapping[str, int]
    left_behind: tuple[str, ...]
    """What no target gets, in words: rows of the source, and files that rows which travelled point to."""
    checks: tuple[str, ...]
    place: str
    """Where the target is, as it was named. Not in the file, which may travel with the target."""
    merged: tuple[Mapping[str, Any], ...] = ()
    """What this run brought into a target that existed, per table; `tables` then tells of the whole file."""
    before: tuple[Mapping[str, Any], ...] = ()
    """The receipts of what the target held before, earliest first."""
    losses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Between engines: what did not arrive as it was, as rows by column and class of loss."""
    sealed: Seal | None = None
    """Digests of all that the target holds."""
    version: str = panicdb.__version__

    @property
    def rows(self) -> int:
        """All rows of the target."""
        return sum(int(table["rows"]) for table in self.tables)

    def to_json(self) -> str:
        """Spell the receipt as it lies beside the target."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as plain values."""
        plain = {
            "panicdb_receipt": FORMAT,
            "panicdb_version": self.version,
            "command": self.command,
            "created": self.created,
            "source": self.source,
            "source_id": self.source_id,
            "target": self.target,
            "revisions": as_json(self.revisions),
            "schema": as_json(self.schema),
            "root": self.root,
            "selection": selection_as_dict(self.selection),
            "tables": as_json(self.tables),
            "empty": as_json(self.empty),
            "violations_kept": as_json(self.kept),
            "left_behind": list(self.left_behind),
            "losses": as_json(self.losses),
            "checks": list(self.checks),
            "merged": as_json(self.merged),
            "before": as_json(self.before),
            "sealed": None if self.sealed is None else self.sealed.as_dict(),
        }
        return plain if self.sealed is None else {**plain, MARK: mark(plain)}


def write_receipt(
    plan: Plan,
    place: str,
    schema: Mapping[str, Any],
    checks: tuple[str, ...],
    sealed: Seal | None = None,
) -> Receipt:
    """Make the receipt of a finished target out of its plan. Writes nothing."""
    return Receipt(
        command=plan.command,
        source=plan.source,
        source_id=plan.source_id,
        target=os.path.basename(place),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        revisions=plan.revisions,
        schema=schema,
        selection=plan.selection and _with_whole_ids(plan.selection, plan),
        root=plan.root,
        tables=tuple(
            {
                "name": table.name,
                "rows": table.rows,
                "owned": table.owned,
                "support": table.support,
                "source_rows": table.source_rows,
                "nulled": dict(table.nulled),
            }
            for table in plan.tables
        ),
        empty=plan.empty,
        kept=plan.kept,
        left_behind=plan.left_behind,
        losses=plan.losses,
        checks=checks,
        place=place,
        sealed=sealed,
    )


def extend_receipt(receipt: Receipt, merged: Merged, rows: Mapping[str, int], path: str | None) -> Receipt:
    """Make the receipt of a merge: `rows` are those of the whole target, `path` is where its older receipt may be.

    Reads the older receipt. A run that is repeated is recorded once.
    """
    parts = tuple(
        {**table, "present": merged.present[table["name"]], "added": merged.added[table["name"]]}
        for table in receipt.tables
    )
    held = {name: count - merged.added.get(name, 0) for name, count in rows.items()}
    before = _earlier(path, {name: count for name, count in held.items() if count})
    return replace(
        receipt,
        command="merge",
        tables=tuple({"name": name, "rows": count} for name, count in rows.items() if count),
        empty={name: receipt.empty.get(name, 0) for name, count in rows.items() if not count},
        merged=parts,
        before=tuple(each for each in before if not _same_part(each, receipt)),
    )


def _earlier(path: str | None, rows: Mapping[str, int]) -> tuple[Mapping[str, Any], ...]:
    """Return the receipts that a target has, the last one at the end; what has none is told by its rows.

    A receipt of other rows than those that were there is another file's, or its file was changed since.
    """
    unknown = ({"unknown": True, "rows": sum(rows.values())},) if rows else ()
    try:
        data = _read(path) if path is not None else None
    except SourceError:
        return unknown
    if data is None or _recorded_rows(data) != rows or not _all_parts(data.get("before")):
        return unknown
    last = {key: value for key, value in data.items() if key not in _OF_THE_WHOLE}
    return (*data["before"], {**last, "tables": data.get("merged") or data.get("tables")})


def _recorded_rows(data: Mapping[str, Any]) -> Mapping[str, int] | None:
    try:
        return {table["name"]: table["rows"] for table in data["tables"]}
    except (KeyError, TypeError):
        return None


def _all_parts(before: Any) -> bool:
    return isinstance(before, list) and all(isinstance(part, dict) for part in before)


def _same_part(earlier: Mapping[str, Any], receipt: Receipt) -> bool:
    keys = ("source_id", "root", "selection", "revisions")
    now = receipt.as_dict()
    return all(earlier.get(key) == now[key] for key in keys)


def selection_as_dict(selection: Selection | None) -> dict[str, Any] | None:
    """Spell a selection with the words of the command line."""
    if selection is None:
        return None
    return {
        "ids": list(selection.ids),
        "where": selection.where,
        "all": selection.all,
        "links": [str(option) for option in selection.links],
        "exclude": list(selection.exclude),
        "whole": list(selection.whole),
        "violations": selection.violations,
    }


def read_selections(path: str) -> tuple[Selection | None, ...]:
    """Read the selections of a receipt, those merged before included; None for that of a clone.

    Raises SourceError for what is no receipt of ours, or for one that can't tell what to expect.
    """
    data = _read(path)
    before = data.get("before", [])
    if not _all_parts(before):
        raise SourceError(f"{path}: not a receipt of panicdb", hint=_WITHOUT_IT)
    parts = [*before, data]
    if any(part.get("unknown") for part in parts):
        raise SourceError(
            f"{path}: the receipt does not know what the file held before the first merge", hint=_WITHOUT_IT
        )
    sources = {str(part.get("source_id")): str(part.get("source")) for part in parts}
    if len(sources) > 1:
        raise SourceError(
            f"{path}: the file was merged from {len(sources)} sources: {', '.join(sorted(sources.values()))}",
            hint=_WITHOUT_IT,
        )
    if len(parts) > 1 and any(part.get("violations_kept") for part in parts):
        raise SourceError(f"{path}: violations were kept in parts of a merged file", hint=_WITHOUT_IT)
    return tuple(_selection_from(part, path) for part in parts)


@dataclass(frozen=True)
class Record:
    """What a sealed receipt alone says of its target."""

    source: str
    revisions: Mapping[str, tuple[str, ...]]
    seal: Seal


def is_receipt(path: str) -> bool:
    """Tell whether a file may be a receipt, for it holds JSON and no database. Reads its beginning.

    Another process looks: the file may be a database that this one has open, and the locks of a process on a file are
    gone as soon as it closes any descriptor of it.
    """
    if not os.path.isfile(path):
        return False
    command = ["head", "-c", "200", os.path.abspath(path)]
    start = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603 - no shell reads it
    return start.lstrip().startswith(b"{")


def read_record(path: str) -> Record:
    """Read a sealed receipt. Raises SourceError for one without a seal, and for one that was edited."""
    data = _read(path)
    if not _is_sealed(data):
        raise SourceError(
            f"{path}: the receipt has no seal, so it can't prove the content",
            hint="`panicdb export --seal` makes one; or name the source instead of the receipt",
        )
    if data.get(MARK) != mark(data):
        raise SourceError(f"{path}: the receipt was edited: its seal does not fit", hint="ask for it again")
    try:
        if data["sealed"]["encoding"] != VERSION:
            raise SourceError(
                f"{path}: sealed with digests of version {data['sealed']['encoding']}, this panicdb makes {VERSION}",
                hint="use the panicdb that sealed it, or name the source instead of the receipt",
            )
        return Record(
            source=_text(data["source"]),
            revisions={table: _texts(rows) for table, rows in data["revisions"].items()},
            seal=read_seal(data["sealed"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path}: not a receipt of this panicdb", hint=_WITHOUT_IT) from error


def find_record(path: str) -> Record | None:
    """Read a receipt's seal, if it has one. Raises SourceError for one that was edited."""
    return read_record(path) if _is_sealed(_read(path)) else None


def _is_sealed(data: Mapping[str, Any]) -> bool:
    """Who takes away the digests, but not the mark, edits a sealed receipt."""
    return data.get("sealed") is not None or MARK in data


def read_stamp(path: str) -> Mapping[str, tuple[str, ...]]:
    """Read the version rows that a target has because the user named its source's revision. Raises SourceError."""
    schema = _read(path).get("schema")
    stamped = schema.get("stamped", {}) if isinstance(schema, dict) else {}
    try:
        return {table: _texts(rows) for table, rows in stamped.items()}
    except (AttributeError, TypeError) as error:
        raise SourceError(f"{path}: not a receipt of panicdb", hint=_WITHOUT_IT) from error


def _read(path: str) -> dict[str, Any]:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        version = data["panicdb_receipt"]
    except OSError as error:
        raise SourceError(
            f"{path}: the receipt can't be read: {error.strerror}", hint="check the path"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{path}: not a receipt of panicdb", hint=_WITHOUT_IT) from error
    if type(version) is not int or version != FORMAT:
        raise SourceError(
            f"{path}: a receipt of format {version}, this panicdb reads format {FORMAT}",
            hint="use a newer panicdb",
        )
    return dict(data)


def _selection_from(data: Mapping[str, Any], path: str) -> Selection | None:
    try:
        chosen = data["selection"]
        return None if chosen is None else _checked_selection(data["root"], chosen)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path}: the receipt's selection can't be read", hint=_WITHOUT_IT) from error


def _checked_selection(root: Any, chosen: Mapping[str, Any]) -> Selection:
    """A file may have been edited: take nothing for what it is not. Raises KeyError, TypeError, ValueError."""
    ids, where, every = _texts(chosen["ids"]), chosen["where"], chosen["all"]
    ways = (bool(ids), where is not None, every is True)
    if (
        ways.count(True) != 1
        or every not in (True, False)
        or chosen["violations"] not in get_args(Violations)
    ):
        raise ValueError(chosen)
    return Selection(
        root=_text(root),
        ids=ids,
        where=None if where is None else _text(where),
        all=every,
        whole_ids=True,
        links=tuple(parse_link(text) for text in _texts(chosen["links"])),
        exclude=_texts(chosen["exclude"]),
        whole=_texts(chosen["whole"]),
        violations=chosen["violations"],
    )


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(value)
    return tuple(_text(each) for each in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _with_whole_ids(selection: Selection, plan: Plan) -> Selection:
    """Prefixes may come to mean other rows; keys stay."""
    return Selection(
        root=plan.root,
        ids=plan.roots,
        where=selection.where,
        all=selection.all,
        whole_ids=True,
        links=selection.links,
        exclude=selection.exclude,
        whole=selection.whole,
        violations=selection.violations,
    )

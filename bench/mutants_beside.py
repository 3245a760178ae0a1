"""Kinds of damage to a verified target, and who sees them: panicdb verify, and sqldiff in its three modes.

    python bench/mutants_beside.py

The damage is that of the tests (tests/mutants.py), each kind done to its own copy of the target. panicdb sees a mutant
if its report is not ok, and sees it rightly if the check that is meant to find it fails. sqldiff always ends with 0
where it can compare: it sees a mutant if it prints a statement. If it ends with an error and says so, that counts as
seen, and is listed, too; a crash without a word does not.

Exit code 0: panicdb sees all of them. 1: it misses one. 2: nothing could be compared.
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import panicdb
from mutants import MUTANTS, SOURCE, Mutant

SQLDIFF = "sqldiff"
MODES = {"--primarykey": ("--primarykey",), "plain": (), "--schema": ("--schema",)}
OURS = "panicdb"
SEEN, ERROR, MISSED = "seen", "error", "-"
OTHER_CHECK = "other check"


class CannotCompareError(Exception):
    """What was to be compared is not what it has to be."""


@dataclass(frozen=True)
class Verdict:
    """What one tool makes of one mutant."""

    word: str
    said: str = ""

    @property
    def sees(self) -> bool:
        return self.word != MISSED


def by_panicdb(source: Path, target: Path, check: str) -> Verdict:
    try:
        report = panicdb.verify(str(source), str(target))
    except panicdb.PanicDBError as error:
        return Verdict(MISSED, f"could not compare: {error}")
    failed = [each.name for each in report.checks if each.status == "FAIL"]
    if report.ok:
        return Verdict(MISSED)
    return (
        Verdict(SEEN) if check in failed else Verdict(OTHER_CHECK, f"{', '.join(failed)} instead of {check}")
    )


def by_sqldiff(source: Path, target: Path, options: tuple[str, ...]) -> Verdict:
    done = subprocess.run(
        [SQLDIFF, *options, source, target], check=False, capture_output=True, text=True, errors="replace"
    )
    said = " ".join(done.stderr.split())
    if done.returncode:
        ended = f"ended with {done.returncode}"
        return Verdict(ERROR, f"{ended}: {said}") if said else Verdict(MISSED, f"{ended}, without a word")
    return Verdict(SEEN if done.stdout.strip() else MISSED, said)


def verdicts(source: Path, target: Path, check: str = "") -> dict[str, Verdict]:
    return {
        OURS: by_panicdb(source, target, check),
        **{name: by_sqldiff(source, target, options) for name, options in MODES.items()},
    }


def damaged(target: Path, mutant: Mutant) -> Path:
    copy = target.with_name("damaged.db")
    shutil.copy(target, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript(mutant.sql)
    if copy.read_bytes() == target.read_bytes():
        raise CannotCompareError(f"{mutant}: it changes nothing")
    return copy


def compare(folder: Path) -> dict[Mutant, dict[str, Verdict]]:
    """Ask all of them about each mutant, and first about the target as it is."""
    source, target = folder / "source.db", folder / "target.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(SOURCE)
    panicdb.clone(str(source), str(target), receipt=False)
    alarms = [f"{name} {each.said}" for name, each in verdicts(source, target).items() if each.sees]
    if alarms:
        raise CannotCompareError(f"a difference is seen in what is the same, by {', '.join(alarms)}")
    return {mutant: verdicts(source, damaged(target, mutant), mutant.check) for mutant in MUTANTS}


def show(found: dict[Mutant, dict[str, Verdict]]) -> None:
    names = (OURS, *MODES)
    print(f"{'':38}{'to be found by':16}{'':14}sqldiff\n{'':54}" + "".join(f"{name:14}" for name in names))
    for mutant, each in found.items():
        words = "".join(f"{each[name].word:14}" for name in names)
        print(f"{mutant.name:38}{mutant.check:16}{words}".rstrip())
    counts = "".join(f"{sum(each[name].sees for each in found.values()):<14}" for name in names)
    print(f"\n{f'seen, of {len(found)}':54}{counts}".rstrip())
    for name in names:
        notes = [f"{mutant}: {each[name].said}" for mutant, each in found.items() if each[name].said]
        listed(f"{name}, errors and notes", notes)
    unseen = [mutant.name for mutant, each in found.items() if not any(each[mode].sees for mode in MODES)]
    listed("sqldiff misses in every mode", unseen)


def listed(title: str, lines: list[str]) -> None:
    print(f"\n{title}: {len(lines) or 'none'}")
    for line in lines:
        print(f"  {line}")


def main() -> int:
    if shutil.which(SQLDIFF) is None:
        print(f"no {SQLDIFF} here: it is in the Debian package sqlite3-tools", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            found = compare(Path(folder))
    except CannotCompareError as error:
        print(error, file=sys.stderr)
        return 2
    show(found)
    missed = [mutant.name for mutant, each in found.items() if not each[OURS].sees]
    listed("panicdb misses", missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

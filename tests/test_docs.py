"""The documents say what the program does: generated pages are fresh, and the README's session is a real one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.mark.quick
def test_the_page_of_the_command_line_is_fresh():
    script = TOP / "docs" / "write_cli.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "run `make docs`"


PROTECTION = re.compile(r"(?<=guarded, with).*")


def test_the_readme_shows_a_real_session(tmp_path, monkeypatch, shell):
    """Each command of the README's first session prints exactly what the README says."""
    monkeypatch.chdir(tmp_path)
    assert shell("demo", "demo").returncode == 0
    for name in ("one.db", "one.db.receipt.json"):
        (tmp_path / "demo" / name).unlink()
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    session = re.search(r"```console\n(\$ panicdb list .*?)```", readme, re.DOTALL)[1]
    steps = re.findall(r"^\$ panicdb (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    assert len(steps) == 3
    for command, output in steps:
        printed = shell(*command.split()).stdout.strip()
        # What protects the rest while migrations run is the kernel's own.
        assert PROTECTION.sub("", printed) == PROTECTION.sub("", output.strip()), command


@pytest.mark.quick
def test_the_readme_python_example_runs(tmp_path, monkeypatch, experiments_db):
    """The lines under "From Python" work as they stand."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments.db").write_bytes(experiments_db.read_bytes())
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    exec(compile(code, "README.md", "exec"), {})
    assert {"one.db", "two.db"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.quick
def test_every_local_link_of_the_documents_leads_somewhere():
    for page in [TOP / "README.md", *(TOP / "docs").rglob("*.md"), TOP / "bench" / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

"""The wheel carries all it needs: installed elsewhere, it works from any directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


def run(*arguments, **options):
    done = subprocess.run(
        [str(each) for each in arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.prove
def test_an_installed_wheel_exports_from_another_directory(tmp_path):
    """Built, installed into a fresh environment, run from a directory of its own: list, export, verify."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", TOP)
    (wheel,) = (tmp_path / "dist").glob("panicdb-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "panicdb/migrations/env.py" in names
    assert "panicdb/py.typed" in names
    assert any(name.startswith("panicdb/migrations/versions/") for name in names)

    run(sys.executable, "-m", "venv", tmp_path / "elsewhere")
    binaries = tmp_path / "elsewhere" / "bin"
    run(binaries / "pip", "install", "--quiet", "--constraint", TOP / "constraints.txt", wheel)
    place = tmp_path / "some where"
    place.mkdir()
    options = {"cwd": place, "env": {**os.environ, "PYTHONPATH": ""}}
    shown = run(binaries / "panicdb", "demo", "d", **options)
    assert "built by its migrations" in shown
    key = run(binaries / "panicdb", "list", "d/experiments.db", **options).splitlines()[1].split()[0]
    run(binaries / "panicdb", "export", "d/experiments.db", "mine.db", key, **options)
    assert "matches" in run(binaries / "panicdb", "verify", "d/experiments.db", "mine.db", **options)
    print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, {len(names)} files; exported from {place.name!r}")

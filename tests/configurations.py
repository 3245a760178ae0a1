"""Random configurations of Alembic, in all the spellings that it takes, and folders of revisions they lead to."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REVISION = "revision = {!r}\ndown_revision = None\n"
SEPARATORS = {"os": os.pathsep, "space": " ", "newline": "\n    ", ";": ";", ":": ":"}


@dataclass(frozen=True)
class Configuration:
    """How Alembic is asked, and where."""

    config: tuple[str, ...]
    section: str | None
    cwd: Path
    environment: Mapping[str, str]
    features: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `alembic` is given."""
        named = [word for name in self.config for word in ("-c", name)]
        return (*named, *(() if self.section is None else ("-n", self.section)))


@dataclass
class Drawing:
    """What is chosen step by step."""

    draw: random.Random
    project: Path
    cwd: Path
    home: Path
    """The folder of the files."""
    number: Iterator[int]
    features: list[str] = field(default_factory=list)

    def odds(self, chance: float) -> bool:
        return self.draw.random() < chance

    def name(self) -> str:
        return f"{self.draw.getrandbits(32):08x}{next(self.number)}"


def draw_configuration(draw: random.Random, root: Path) -> Configuration:
    """Write a project below `root`, and draw how its history is configured."""
    project = root / draw.choice(("project", "project", "my project", "pro,ject", "größe", "100%"))
    package(project / "app")
    package(project / "app" / "inner", initialised=draw.random() < 0.7)
    home = project / "conf" if draw.random() < 0.3 else project
    home.mkdir(exist_ok=True)
    cwd = project if draw.random() < 0.7 else root
    drawing = Drawing(draw, project, cwd, home, iter(range(1000)))
    options = draw_options(drawing, root)
    return write_configuration(drawing, options)


def package(folder: Path, *, initialised: bool = True) -> None:
    """Make a package that tells when it is imported: Alembic may do that, we may not."""
    folder.mkdir(parents=True, exist_ok=True)
    if initialised:
        (folder / "__init__.py").write_text("import sys\nsys.panicdb_imported = True\n", encoding="utf-8")


@dataclass(frozen=True)
class Spelled:
    """An option: its parts, and how they may be written in either file."""

    parts: tuple[str, ...]
    listed: bool = False
    flag: bool = False


def draw_options(drawing: Drawing, root: Path) -> dict[str, Spelled]:
    draw, project = drawing.draw, drawing.project
    location = draw.choice((
        project / "migrations",
        project / "db" / "my migrations",
        project / "app" / "history",
        project / "app" / "inner" / "history",
        root / "elsewhere",
    ))  # fmt: skip
    location.mkdir(parents=True)
    (location / "env.py").write_text("raise SystemExit('env.py was run')\n", encoding="utf-8")
    fill_folder(drawing, location / "versions")
    options = {"script_location": Spelled((spell(drawing, location),))}
    if drawing.odds(0.6):
        places = [
            location / "versions",
            location / "more",
            project / "plug in",
            root / "far",
            project / "app" / "own",
        ]
        chosen = draw.sample(places, draw.randint(1, 3))
        for place in chosen:
            fill_folder(drawing, place)
        if drawing.odds(0.2):
            chosen.append(project / "nowhere")
        options["version_locations"] = Spelled(tuple(spell(drawing, each) for each in chosen), listed=True)
        drawing.features.append("version_locations")
    if drawing.odds(0.4):
        said = draw.choice(("true", "true", "false", "True", "yes"))
        options["recursive_version_locations"] = Spelled((said,), flag=True)
    if drawing.odds(0.1):
        options["script_location"] = Spelled((draw.choice(("", "nowhere", "no_such_package:history")),))
        drawing.features.append("a location that is not there")
    # Always: a package may be on the way, and Alembic finds none in its working directory.
    path = [here(drawing, project), str(project), str(root / "nowhere")]
    options["prepend_sys_path"] = Spelled(
        tuple(draw.sample(path[:2], 1) + path[2:] * drawing.odds(0.3)), listed=True
    )
    return options


def spell(drawing: Drawing, folder: Path) -> str:
    """Write a folder's place in one of the ways that Alembic takes."""
    app = drawing.project / "app"
    ways = ["absolute", "relative", "here"]
    if folder.is_relative_to(app):
        ways += ["package"] * 4
    way = drawing.draw.choice(ways)
    drawing.features.append(f"{way} locations")
    if way == "package":
        inside = folder.relative_to(app).parts
        at = drawing.draw.randint(0, len(inside) - 1)
        return ".".join(("app", *inside[:at])) + ":" + ":".join(inside[at:])
    if way == "relative":
        return os.path.relpath(folder, drawing.cwd)
    return str(folder) if way == "absolute" else here(drawing, folder)


def here(drawing: Drawing, folder: Path) -> str:
    """The placeholder is put in at last: what else has a % is doubled before."""
    return "\0" + os.path.relpath(folder, drawing.home)


def written(text: str) -> str:
    """Double what stands for itself."""
    doubled = text.replace("%", "%%")
    return doubled.replace("\0", "%(here)s/")


def fill_folder(drawing: Drawing, folder: Path) -> None:
    """Write revisions into a folder, and what only looks like some, to Alembic or to us."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(drawing.draw.randint(1, 3)):
        write_revision(drawing, folder / f"{drawing.name()}_text.py")
    strange = {
        "__init__.py": 0.2,
        "__init__more.py": 0.1,
        ".#draft.py": 0.1,
        ".hidden.py": 0.1,
        "notes.txt": 0.2,
        "upper.PY": 0.1,
        "odd name, with; all: of it.py": 0.1,
        "deep/er.py": 0.3,
        "deep/further/down.py": 0.2,
        "__pycache__/cached.py": 0.2,
        "deep/__pycache__/cached.py": 0.1,
    }
    for name, chance in strange.items():
        if drawing.odds(chance):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_revision(drawing, folder / name)
    if drawing.odds(0.1):
        (folder / f"{drawing.draw.getrandbits(32):08x}.py").write_text(
            "down_revision = None\n", encoding="utf-8"
        )
    if drawing.odds(0.2):
        drawing.features.append("links")
        aim = drawing.project / "aside" / f"{drawing.name()}.py"
        aim.parent.mkdir(exist_ok=True)
        write_revision(drawing, aim)
        name = drawing.draw.choice(("linked.py", "linked.txt", "__init__linked.py"))
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(aim)
    if drawing.odds(0.1) and not (folder / "gone").is_symlink():
        (folder / "gone").symlink_to(folder / "never there")


def write_revision(drawing: Drawing, file: Path) -> None:
    file.write_text(REVISION.format(drawing.name()), encoding="utf-8")


def write_configuration(drawing: Drawing, options: Mapping[str, Spelled]) -> Configuration:
    draw = drawing.draw
    kind = draw.choice(("ini", "ini", "toml", "both"))
    section = draw.choice(("alembic", "alembic", "other"))
    named = drawing.odds(0.4) or drawing.home != drawing.cwd
    ini_name = draw.choice(("alembic.ini", "my alembic.cfg")) if named else "alembic.ini"
    in_ini = {name for name in options if kind == "ini" or (kind == "both" and drawing.odds(0.5))}
    in_toml = {name for name in options if name not in in_ini or (kind == "both" and drawing.odds(0.2))}
    files = []
    if kind != "toml":
        write_ini(drawing, drawing.home / ini_name, section, {name: options[name] for name in in_ini})
        files.append(drawing.home / ini_name)
    if kind != "ini":
        write_toml(drawing, drawing.home / "pyproject.toml", {name: options[name] for name in in_toml})
        files.append(drawing.home / "pyproject.toml")
    drawing.features += [kind, f"section {section}"]
    config, environment = name_files(drawing, files, named=named)
    chosen = None if section == "alembic" and drawing.odds(0.8) else section
    return Configuration(config, chosen, drawing.cwd, environment, tuple(dict.fromkeys(drawing.features)))


def name_files(
    drawing: Drawing, files: Sequence[Path], *, named: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Name files with -c, or one in the environment, or none."""
    if not named:
        return (), {}
    spelled = [
        str(file) if drawing.odds(0.5) else os.path.relpath(file, drawing.cwd)
        for file in drawing.draw.sample(files, len(files))
    ]
    if drawing.odds(0.3):
        drawing.features.append("named by a variable")
        return (), {"ALEMBIC_CONFIG": spelled[0]}
    drawing.features.append("named by -c")
    return tuple(spelled), {}


def write_ini(drawing: Drawing, file: Path, section: str, options: Mapping[str, Spelled]) -> None:
    # Packages that are split at their colon may lead to a folder with env.py, which Alembic takes for a revision.
    packages = any(":" in part for option in options.values() if option.listed for part in option.parts)
    fit = [name for name, character in SEPARATORS.items() if not (packages and character == ":")]
    separator = drawing.draw.choice((None, None, *fit))
    between = SEPARATORS[separator] if separator else drawing.draw.choice((",", ", ", " "))
    lines = [f"[{section}]"]
    for name, option in options.items():
        text = between.join(map(written, option.parts))
        lines.append(f"{name} = {text}")
    if separator is not None:
        old = "prepend_sys_path" not in options and drawing.odds(0.3)
        lines.append(f"{'version_path_separator' if old else 'path_separator'} = {separator}")
        drawing.features.append(f"separator {separator}")
    # Nobody but env.py reads this, so what is wrong with it is no matter here.
    lines += ["sqlalchemy.url = postgresql://user:100%@host/base", "", "[loggers]", "keys = root"]
    if section != "alembic" and drawing.odds(0.5):
        lines += ["[alembic]", "script_location = %(here)s/nowhere"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_toml(drawing: Drawing, file: Path, options: Mapping[str, Spelled]) -> None:
    lines = ["[project]", "name = 'x'", "[tool.alembic]"]
    for name, option in options.items():
        parts = [f"'{written(part)}'" for part in option.parts]
        if option.flag:
            text = {"true": "true", "false": "false"}.get(option.parts[0], parts[0])
        else:
            text = f"[{', '.join(parts)}]" if option.listed else parts[0]
        lines.append(f"{name} = {text}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")

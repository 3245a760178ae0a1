"""What panicdb knows about an application: its root table, what to list, which rows its schema keeps without links."""

from dataclasses import dataclass, replace

from panicdb.errors import UsageError
from panicdb.links import find_table, parse_link
from panicdb.roots import Root
from panicdb.values import Catalog, CatalogTable, Selection


@dataclass(frozen=True)
class Profile:
    """One application. `tables` recognise it; `whole` and `links` (spelled as `--link`) hold unless overridden."""

    name: str
    tables: frozenset[str]
    root: str
    noun: str
    labels: tuple[str, ...]
    whole: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


PANIC_TDA = Profile(
    name="PANIC-TDA",
    tables=frozenset({"experimentconfig", "run", "invocation", "embedding"}),
    root="experimentconfig",
    noun="Experiment",
    labels=("started_at", "completed_at", "max_length"),
)
MLFLOW = Profile(
    name="MLflow",
    tables=frozenset({"experiments", "runs", "metrics", "params", "latest_metrics"}),
    root="experiments",
    noun="experiments row",
    labels=("name", "lifecycle_stage"),
)
OPTUNA = Profile(
    name="Optuna",
    tables=frozenset({"studies", "trials", "version_info", "study_directions"}),
    root="studies",
    noun="studies row",
    labels=("study_name",),
    whole=("version_info",),
)
BUILT_IN = (PANIC_TDA, MLFLOW, OPTUNA)

LABEL_NAMES = ("name", "title", "label", "slug", "email", "created_at", "started_at")


def recognise(catalog: Catalog) -> Profile | None:
    """Return the built-in profile of the application that a database belongs to, if there is one."""
    return next((each for each in BUILT_IN if each.tables <= set(catalog.tables)), None)


def choose_root(catalog: Catalog, selection: Selection) -> Root:
    """Return the root table: as selected, else the profile's. Raises UsageError where neither says."""
    profile = recognise(catalog)
    if selection.root is None and profile is None:
        raise UsageError(
            "which table holds the rows to choose from?",
            hint=f"--root TABLE, for example {_likely_root(catalog)}",
        )
    name = selection.root or (profile.root if profile else "")
    entry = find_table(catalog, name)
    known = profile is not None and entry.name == profile.root
    return Root(entry, profile.noun if profile is not None and known else f"{entry.name} row")


def complete(catalog: Catalog, selection: Selection) -> Selection:
    """Add what the profile knows to a selection; what the user says of the same link or table wins."""
    profile = recognise(catalog)
    if profile is None:
        return selection
    own = {(option.child, option.child_columns) for option in selection.links}
    links = [
        option
        for option in map(parse_link, profile.links)
        if (option.child, option.child_columns) not in own
        and option.child in catalog.tables
        and (option.parent is None or option.parent in catalog.tables)
    ]
    whole = [name for name in profile.whole if name in catalog.tables and name not in selection.exclude]
    return replace(
        selection,
        links=(*links, *selection.links),
        whole=tuple(dict.fromkeys((*whole, *selection.whole))),
    )


def labels(catalog: Catalog, root: CatalogTable) -> tuple[str, ...]:
    """Return the columns that tell a reader which root is which."""
    profile = recognise(catalog)
    wanted = profile.labels if profile is not None and profile.root == root.name else LABEL_NAMES
    return tuple(name for name in wanted if name in root.table.c)


def _likely_root(catalog: Catalog) -> str:
    """Guess for the hint only: the table that most others hang on and that hangs on none."""
    children = {link.child for link in catalog.links if link.child != link.parent}
    parents = [link.parent for link in catalog.links if link.parent not in children]
    names = [table.name for table in catalog.ordinary()]
    return max(parents, key=parents.count) if parents else (names or ["TABLE"])[0]

"""What panicdb knows about an application: its root table, what to list, which rows its schema keeps without links."""

from dataclasses import dataclass, replace

from panicdb.errors import SelectionError
from panicdb.histories import Package, Recipe
from panicdb.links import find_table, parse_link
from panicdb.roots import Root
from panicdb.values import Catalog, CatalogTable, LinkOption, Selection


@dataclass(frozen=True)
class Files:
    """Columns of a table that name files outside of the database, any of them."""

    table: str
    columns: tuple[str, ...]
    keys: tuple[str, ...] = ()
    """In a table of keys and values: those, in its column `key`, whose values do so; else every row may."""


@dataclass(frozen=True)
class Profile:
    """One application. `tables` recognise it; `whole` and `links` hold unless the user says otherwise.

    Each entry of `links` is one or more spellings as of `--link`: the first whose tables and columns exist is taken,
    since an application's schema changes from release to release.
    """

    name: str
    tables: frozenset[str]
    root: str
    noun: str
    labels: tuple[str, ...]
    whole: tuple[str, ...] = ()
    links: tuple[tuple[str, ...], ...] = ()
    package: Package | None = None
    """Where the application has its migrations, if it is installed; the bundled history is found without."""
    files: tuple[Files, ...] = ()
    """Of any of its releases."""


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
    package=Package(
        "MLflow",
        "mlflow.store.db_migrations",
        Recipe(
            bootstrap="mlflow.store.tracking.dbmodels.initial_models:Base.metadata",
            command=("mlflow", "db", "upgrade", "{url}"),
        ),
    ),
    links=(
        # Edges between runs, data and models name rows of several tables in one column, so none is a foreign key.
        ("inputs.source_id->runs.run_uuid=leave",),
        ("inputs.destination_id->runs.run_uuid=leave",),
        ("input_tags.input_uuid->inputs.input_uuid=leave",),
        # A run brings the model versions it made; these bring their registered model, but not its other versions.
        ("model_versions.run_id->runs.run_uuid=leave",),
        (
            "registered_model_aliases.workspace,name,version->model_versions.workspace,name,version=leave",
            "registered_model_aliases.name,version->model_versions.name,version=leave",
        ),
        (
            "registered_model_aliases.workspace,name->registered_models.workspace,name=stay",
            "registered_model_aliases.name->registered_models.name=stay",
        ),
        (
            "registered_model_tags.workspace,name->model_versions.workspace,name=leave",
            "registered_model_tags.name->model_versions.name=leave",
        ),
        # Traces and evaluation data hang on experiments and runs through one table of associations.
        ("entity_associations.destination_id->experiments.experiment_id=leave",),
        ("entity_associations.destination_id->runs.run_uuid=leave",),
        ("entity_associations.source_id->trace_info.request_id=leave",),
        ("evaluation_datasets.dataset_id->entity_associations.source_id=leave",),
        ("sql_trace_metric_daily_rollups.experiment_id->experiments.experiment_id=leave",),
        ("sql_span_cost_daily_rollups.experiment_id->experiments.experiment_id=leave",),
        ("sql_assessment_daily_rollups.experiment_id->experiments.experiment_id=leave",),
        ("sql_trace_rollup_rebuild_queue.experiment_id->experiments.experiment_id=leave",),
        # Workspaces come along, with nothing else that is in them.
        ("experiments.workspace->workspaces.name=stay",),
        ("registered_models.workspace->workspaces.name=stay",),
        ("evaluation_datasets.workspace->workspaces.name=stay",),
        # A gateway endpoint may name an experiment; it must not travel with it, for its secrets would.
        ("endpoints.experiment_id->experiments.experiment_id=stay",),
        ("guardrails.scorer_id,scorer_version->scorer_versions.scorer_id,scorer_version=stay",),
    ),
    files=(
        Files("experiments", ("artifact_location",)),
        Files("runs", ("artifact_uri",)),
        Files("logged_models", ("artifact_location",)),
        # A release that has the former falls back on the latter, which may name a model or a run instead of a place.
        Files("model_versions", ("storage_location", "source")),
        Files("trace_tags", ("value",), keys=("mlflow.artifactLocation", "mlflow.trace.archiveLocation")),
    ),
)
OPTUNA = Profile(
    name="Optuna",
    tables=frozenset({"studies", "trials", "version_info", "study_directions"}),
    root="studies",
    noun="studies row",
    labels=("study_name",),
    # Its env.py reads the logging of a configuration file that the package keeps elsewhere.
    package=Package("Optuna", "optuna.storages._rdb.alembic", Recipe(ways=("bypass",))),
    whole=("version_info",),
)
PREFECT = Profile(
    name="Prefect",
    tables=frozenset({"flow", "flow_run", "flow_run_state", "task_run", "task_run_state"}),
    root="flow_run",
    noun="flow_run row",
    labels=("name", "state_name", "expected_start_time"),
    package=Package(
        "Prefect",
        "prefect.server.database._migrations",
        Recipe(
            metadata="prefect.server.database.orm_models:Base.metadata",
            command=("prefect", "server", "database", "upgrade", "-y"),
            environment={
                "PREFECT_API_DATABASE_CONNECTION_URL": "{async_url}",
                "PREFECT_HOME": "{directory}/home",
            },
            ways=("bypass", "command"),  # its env.py runs in a thread of its own command line only
        ),
        versions="versions/{engine}",
    ),
    links=(
        # A state belongs to one run, a result to the state that points to it: nothing is brought by way of either.
        ("flow_run.state_id=stay",),
        ("flow_run_state.result_artifact_id=stay",),
        ("task_run_state.result_artifact_id=stay",),
        # Prefect keeps no foreign keys where much is written, and clears up afterwards.
        ("log.flow_run_id->flow_run.id=leave",),
        ("log.task_run_id->task_run.id=leave",),
        ("artifact.flow_run_id->flow_run.id=leave",),
        ("artifact.task_run_id->task_run.id=leave",),
        ("artifact_collection.latest_id->artifact.id=leave",),
        ("task_run_state_cache.task_run_state_id->task_run_state.id=leave",),
        ("event_resources.event_id->events.id=leave",),
        # A run brings the deployment it came from, if that is still there; a deployment not its other runs.
        ("deployment.id->flow_run.deployment_id=leave",),
        # Block documents are secrets under a key that stays behind; Prefect can't even list them without it.
        ("deployment.storage_document_id=null",),
        ("deployment.infrastructure_document_id=null",),
        ("flow_run.infrastructure_document_id=null",),
    ),
)
BUILT_IN = (PANIC_TDA, MLFLOW, OPTUNA, PREFECT)

LABEL_NAMES = ("name", "title", "label", "slug", "email", "created_at", "started_at")


def recognise(catalog: Catalog) -> Profile | None:
    """Return the built-in profile of the application that a database belongs to, if there is one."""
    return next((each for each in BUILT_IN if each.tables <= set(catalog.tables)), None)


def choose_root(catalog: Catalog, selection: Selection) -> Root:
    """Return the root table: as selected, else the profile's. Raises SelectionError where neither says."""
    profile = recognise(catalog)
    if not catalog.ordinary():
        raise SelectionError("the source has no tables", hint="check the file name")
    if selection.root is None and profile is None:
        raise SelectionError(
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
    links = [
        option
        for option in (_first_that_fits(catalog, spellings) for spellings in profile.links)
        if option is not None and not any(_overrides(said, option) for said in selection.links)
    ]
    whole = [name for name in profile.whole if name in catalog.tables and name not in selection.exclude]
    return replace(
        selection,
        links=(*links, *selection.links),
        whole=tuple(dict.fromkeys((*whole, *selection.whole))),
    )


def _first_that_fits(catalog: Catalog, spellings: tuple[str, ...]) -> LinkOption | None:
    """Return the first link whose tables and columns this release of the application has."""
    for option in map(parse_link, spellings):
        sides = [(option.child, option.child_columns), (option.parent or option.child, option.parent_columns)]
        if all(
            table in catalog.tables and all(column in catalog.tables[table].table.c for column in columns)
            for table, columns in sides
        ):
            return option
    return None


def _overrides(said: LinkOption, known: LinkOption) -> bool:
    """A user's word on the same columns, to the same parent if one is named, replaces the profile's."""
    same_columns = (said.child, said.child_columns) == (known.child, known.child_columns)
    return same_columns and said.parent in (None, known.parent)


def files(catalog: Catalog) -> tuple[Files, ...]:
    """Return the columns of a database that are known to name files outside of it."""
    profile = recognise(catalog)
    ordinary = {entry.name: entry.table.c for entry in catalog.ordinary()}
    there = [
        replace(each, columns=tuple(name for name in each.columns if name in ordinary[each.table]))
        for each in (profile.files if profile else ())
        if each.table in ordinary and (not each.keys or "key" in ordinary[each.table])
    ]
    return tuple(each for each in there if each.columns)


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

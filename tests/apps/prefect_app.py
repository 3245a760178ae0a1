"""Prefect at work, run by an environment of its own.

    make DB          fill a new database through Prefect's own API
    check DB RUN     print, as JSON, what Prefect shows of one flow run, and what else there is
    continue DB RUN  run its flow once more, print what Prefect shows of that

The server is an application within this process: no other one is started, and nothing is listened on. A flow run is
named by its id. What Prefect's background services would change by themselves is switched off.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from prefect.server.api.server import create_app
from prefect.settings import (
    PREFECT_API_BLOCKS_REGISTER_ON_START,
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)

NOT_FOUND = 404
CLOCK = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
SECRET = "a password that no subset holds"
RUNS = {"run 1": ("ingest", "nightly"), "run 2": ("ingest", "nightly"), "run 3": ("report", "weekly")}
"""Flow runs, with their flows, and the deployments that they came from."""
CHILD = "clean"
"""The flow that each of them calls."""
TASKS = ("load", "call", "save")


class Server:
    """Prefect's API over a database, spoken to by Prefect's own client."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def get(self, path: str, **parameters: Any) -> Any:
        """Read what is at a path; nothing if there is nothing."""
        try:
            return (await self._client.request("GET", path, params=parameters)).json()
        except PrefectHTTPStatusError as error:
            if error.response.status_code != NOT_FOUND:
                raise
            return None

    async def post(self, path: str, **body: Any) -> Any:
        """Send a body to a path, and return what comes back."""
        response = await self._client.request("POST", path, json=body)
        return response.json() if response.content else None

    async def post_all(self, path: str, items: list[dict[str, Any]]) -> None:
        """Send several things to a path at once."""
        await self._client.request("POST", path, json=items)

    async def delete(self, path: str) -> None:
        """Delete what is at a path."""
        await self._client.request("DELETE", path)


@asynccontextmanager
async def open_server(database: Path) -> AsyncIterator[Server]:
    """Start Prefect on a database, which it upgrades, or makes, by that; end it in the end."""
    settings = {
        PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}",
        PREFECT_API_BLOCKS_REGISTER_ON_START: False,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    with temporary_settings(settings):
        async with PrefectClient(create_app(ephemeral=True)) as client:
            yield Server(client)


# -- make ------------------------------------------------------------------------------------------


async def make(server: Server) -> None:
    """Fill a new database with three flow runs, each with a run of another flow within it."""
    secret = await make_secret(server)
    flows = {name: (await server.post("/flows/", name=name))["id"] for name in ("ingest", "report", CHILD)}
    deployments = {
        "nightly": await make_deployment(server, "nightly", flows["ingest"], storage_document_id=secret),
        "weekly": await make_deployment(server, "weekly", flows["report"]),
        "idle": await make_deployment(server, "idle", flows["report"], storage_document_id=secret),
    }
    for number, (name, (flow, deployment)) in enumerate(RUNS.items(), start=1):
        run = await server.post(
            f"/deployments/{deployments[deployment]}/create_flow_run",
            name=name,
            parameters={"day": number, "text": "täglich", "nothing": None},
            tags=[flow, f"number {number}"],
            idempotency_key=f"key {number}",
        )
        await make_run(server, run["id"], number, flows[CHILD])
    # Prefect leaves the id of a deleted deployment in the runs that came from it.
    await server.delete(f"/deployments/{deployments['weekly']}")
    await make_surroundings(server)


async def make_secret(server: Server) -> str:
    """Store a block document, which Prefect encrypts with a key that it stores, too; return its id."""
    await server.post("/block_types/install_system_block_types")
    kind = await server.get("/block_types/slug/secret")
    schemas = await server.post(
        "/block_schemas/filter", block_schemas={"block_type_id": {"any_": [kind["id"]]}}
    )
    document = await server.post(
        "/block_documents/",
        name="password",
        data={"value": SECRET},
        block_type_id=kind["id"],
        block_schema_id=schemas[0]["id"],
    )
    return str(document["id"])


async def make_deployment(server: Server, name: str, flow: str, **more: Any) -> str:
    """Make a deployment in a work pool and a queue of its own, with a schedule; return its id."""
    pool, queue = f"pool of {name}", f"queue of {name}"
    await server.post("/work_pools/", name=pool, type="process", description="some machines")
    await server.post(f"/work_pools/{pool}/queues", name=queue, priority=2, concurrency_limit=3)
    deployment = await server.post(
        "/deployments/",
        name=name,
        flow_id=flow,
        work_pool_name=pool,
        work_queue_name=queue,
        schedules=[{"active": True, "schedule": {"interval": 86400.0, "timezone": "UTC"}}],
        concurrency_limit=2,
        parameters={"day": 0},
        enforce_parameter_schema=False,
        entrypoint="flows.py:main",
        version_info={"type": "simple", "version": f"1 of {name}"},
        **more,
    )
    return str(deployment["id"])


async def make_run(server: Server, run: str, number: int, child: str) -> None:
    """Let a flow run go through its states, with tasks, one of which calls another flow."""
    await enter(server, "flow_runs", run, "PENDING", "RUNNING")
    tasks: dict[str, str] = {}
    for name in TASKS:
        inputs = {"of": [{"input_type": "task_run", "id": tasks["load"]}]} if tasks else {}
        tasks[name] = await make_task(server, run, name, task_inputs=inputs)
        await make_records(server, flow_run_id=run, task_run_id=tasks[name])
    within = await server.post(
        "/flow_runs/", flow_id=child, name=f"within run {number}", parent_task_run_id=tasks["call"]
    )
    await enter(server, "flow_runs", within["id"], "RUNNING")
    await make_task(server, within["id"], "wash")
    await make_records(server, flow_run_id=within["id"])
    await enter(server, "flow_runs", within["id"], "COMPLETED")
    await make_records(server, flow_run_id=run)
    await server.post(
        "/artifacts/", key="summary", type="markdown", data=f"# {number}", flow_run_id=run, description="new"
    )
    await server.post(f"/flow_runs/{run}/input", key="answer", value="42", sender="somebody")
    await enter(server, "flow_runs", run, "FAILED" if number == 2 else "COMPLETED")
    await make_event(server, run)


async def make_task(server: Server, run: str, name: str, **more: Any) -> str:
    """Make a task run that completes, with a result, and a cache entry for it; return its id."""
    task = await server.post(
        "/task_runs/",
        flow_run_id=run,
        name=name,
        task_key=f"{name}-key",
        dynamic_key="0",
        cache_key=f"{run} {name}",
        tags=["täglich"],
        **more,
    )
    await enter(server, "task_runs", task["id"], "PENDING", "RUNNING", "COMPLETED", data={"value": 0.1})
    return str(task["id"])


async def enter(server: Server, table: str, run: str, *states: str, **more: Any) -> None:
    """Take a run into states, by Prefect's own rules."""
    for state in states:
        details = {"cache_key": f"cached {run}"} if table == "task_runs" and state == "COMPLETED" else {}
        given = {"type": state, "message": f"now {state}", "state_details": details, **more}
        done = await server.post(f"/{table}/{run}/set_state", state=given)
        assert done["status"] == "ACCEPT", done


async def make_records(server: Server, **of: str) -> None:
    """Write two lines of a log, and an artifact without a key, for a run."""
    lines = [
        {"name": "prefect", "level": 20, "message": f"line {n}\nof täglich", **of}
        | {"timestamp": (CLOCK + timedelta(seconds=n)).isoformat()}
        for n in range(2)
    ]
    await server.post_all("/logs/", lines)
    await server.post("/artifacts/", type="table", data=[{"x": 1.5, "y": None}], metadata_={"a": "b"}, **of)


async def make_event(server: Server, run: str) -> None:
    """Report an event of a run; Prefect knows it by a text that holds the run's id."""
    event = {
        "occurred": datetime.now(UTC).isoformat(),  # Prefect clears old ones away as it starts
        "event": "something.happened",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": "prefect.flow.any", "prefect.resource.role": "flow"}],
        "payload": {"how": "well"},
        "id": run,
    }
    await server.post_all("/events", [event])


async def make_surroundings(server: Server) -> None:
    """Make what belongs to no run."""
    await server.post("/variables/", name="address", value={"host": "nowhere"}, tags=["network"])
    await server.post("/v2/concurrency_limits/", name="database", limit=5)
    await server.post("/concurrency_limits/", tag="slow", concurrency_limit=1)


# -- check -----------------------------------------------------------------------------------------


async def check(server: Server, run: str) -> dict[str, Any]:
    """Say what Prefect shows: `shown` of the flow run, `held` of everything in the database."""
    return {
        "shown": await show_run(server, run),
        "held": {
            "flows": names(await server.post("/flows/filter")),
            "flow_runs": names(await server.post("/flow_runs/filter")),
            "deployments": names(await server.post("/deployments/filter")),
            "work_pools": names(await server.post("/work_pools/filter")),
            "variables": names(await server.post("/variables/filter")),
            "blocks": names(await server.post("/block_documents/filter")),
            "latest_artifacts": len(await server.post("/artifacts/latest/filter")),
        },
    }


def names(items: list[dict[str, Any]]) -> list[str]:
    """Name things in an order that holds."""
    return sorted(item["name"] for item in items)


async def show_run(server: Server, run: str) -> dict[str, Any]:
    """Show a flow run with all that Prefect's pages show of it, the runs within it likewise."""
    shown = await server.get(f"/flow_runs/{run}")
    within = await server.post("/flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run]}})
    of_run = {"flow_run_id": {"any_": [run]}}
    tasks = await server.post("/task_runs/filter", task_runs=of_run)
    return {
        "run": shown,
        "flow": await server.get(f"/flows/{shown['flow_id']}"),
        "deployment": shown["deployment_id"] and await show_deployment(server, shown["deployment_id"]),
        "states": by_id(await server.get("/flow_run_states/", flow_run_id=run)),
        "tasks": [await show_task(server, task) for task in by_id(tasks)],
        "graph": await server.get(f"/flow_runs/{run}/graph-v2"),
        "inputs": by_id(await server.post(f"/flow_runs/{run}/input/filter", prefix="")),
        "logs": by_id(await server.post("/logs/filter", logs=of_run)),
        "artifacts": by_id(await server.post("/artifacts/filter", artifacts=of_run)),
        "latest": by_id(await server.post("/artifacts/latest/filter", artifacts=of_run)),
        "within": [await show_run(server, each["id"]) for each in by_id(within)],
    }


async def show_task(server: Server, task: dict[str, Any]) -> dict[str, Any]:
    """Show a task run and its states."""
    return {**task, "states": by_id(await server.get("/task_run_states/", task_run_id=task["id"]))}


async def show_deployment(server: Server, deployment: str) -> dict[str, Any] | None:
    """Show a deployment with its schedules, and its work pool with the queues."""
    shown = await server.get(f"/deployments/{deployment}")
    if shown is None:
        return None
    pool = await server.get(f"/work_pools/{shown['work_pool_name']}")
    return {
        **shown,
        "pool": pool,
        "default queue": await server.get(f"/work_queues/{pool['default_queue_id']}"),
        "queue": await server.get(f"/work_queues/{shown['work_queue_id']}"),
    }


def by_id(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort what Prefect returns in no promised order."""
    return sorted(items, key=lambda item: str(item["id"]))


# -- continue --------------------------------------------------------------------------------------


async def go_on(server: Server, run: str) -> dict[str, Any]:
    """Run the flow of a flow run once more, and show what does not depend on the clock."""
    before = await server.get(f"/flow_runs/{run}")
    made = await server.post("/flow_runs/", flow_id=before["flow_id"], name="further")
    await enter(server, "flow_runs", made["id"], "RUNNING")
    await make_task(server, made["id"], "load")
    await enter(server, "flow_runs", made["id"], "COMPLETED")
    shown = await show_run(server, made["id"])
    return {
        "flow": shown["flow"],
        "state": shown["run"]["state_name"],
        "states": sorted(state["name"] for state in shown["states"]),
        "tasks": [task["name"] for task in shown["tasks"]],
    }


def work(database: str, task: Callable[..., Coroutine[Any, Any, Any]], *arguments: str) -> Any:
    """Do one thing with a server on a database."""
    path = Path(database).resolve()

    async def run() -> Any:
        async with open_server(path) as server:
            return await task(server, *arguments)

    return asyncio.run(run())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", path]:
            work(path, make)
        case ["check", path, chosen]:
            print(json.dumps(work(path, check, chosen)))
        case ["continue", path, chosen]:
            print(json.dumps(work(path, go_on, chosen)))
        case _:
            sys.exit(__doc__)

"""panicdb: exact, closed, proven copies of the rows you choose.

    from panicdb import clone, drift, export, export_experiments, list_roots, plan, verify

The names below load on first use, so that `panicdb --help` need not wait for a database library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panicdb.commands import (
        RootList,
        RootRow,
        clone,
        drift,
        export,
        export_experiments,
        list_roots,
        plan,
        verify,
    )
    from panicdb.drifts import Drift, Inference
    from panicdb.errors import PanicDBError
    from panicdb.planner import Plan
    from panicdb.receipt import Receipt
    from panicdb.reports import Report
    from panicdb.values import Monitor, Progress

__version__ = "0.1.0"

__all__ = [
    "Drift",
    "Inference",
    "Monitor",
    "PanicDBError",
    "Plan",
    "Progress",
    "Receipt",
    "Report",
    "RootList",
    "RootRow",
    "clone",
    "drift",
    "export",
    "export_experiments",
    "list_roots",
    "plan",
    "verify",
]

_HOMES = {
    "Drift": "drifts",
    "Inference": "drifts",
    "Monitor": "values",
    "PanicDBError": "errors",
    "Plan": "planner",
    "Progress": "values",
    "Receipt": "receipt",
    "Report": "verification",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only needed for the first use

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'commands')}"), name)

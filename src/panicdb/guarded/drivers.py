"""Drivers of databases: as their modules are imported, what opens connections in them is taken away.

Or led to the draft, where that is a database of a server whose drivers `aims` knows.

The names are those that a program, or SQLAlchemy, calls; the C functions behind them are covered where they can be
reached as an attribute. (Drivers in pure Python are stopped twice: their sockets don't open either.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, NoReturn

from .aims import WAYS, Aim, forget

OPENING = {
    "psycopg": ("connect", "Connection.connect", "AsyncConnection.connect"),
    "psycopg.connection": ("Connection.connect",),
    "psycopg.connection_async": ("AsyncConnection.connect",),
    "psycopg.generators": ("connect",),
    "psycopg.pq": ("PGconn",),
    "psycopg.pq.pq_ctypes": ("PGconn.connect", "PGconn.connect_start", "PGconn.ping"),
    "psycopg.pq._pq_ctypes": ("PQconnectdb", "PQconnectStart", "PQping"),
    "psycopg_c._psycopg": ("connect",),
    "psycopg_c.pq": ("PGconn",),
    "psycopg_binary._psycopg": ("connect",),
    "psycopg_binary.pq": ("PGconn",),
    "psycopg2": ("connect", "_connect"),
    "psycopg2._psycopg": ("_connect", "connection", "ReplicationConnection"),
    "psycopg2cffi": ("connect",),
    "asyncpg": ("connect", "create_pool"),
    "asyncpg.connection": ("connect",),
    "asyncpg.connect_utils": ("_connect", "_connect_addr"),
    "pg8000": ("connect",),
    "pg8000.core": ("CoreConnection",),
    "pg8000.dbapi": ("connect", "Connection"),
    "pg8000.native": ("Connection",),
    "pygresql": ("connect",),
    "pg": ("connect", "DB"),
    "pgdb": ("connect",),
    "_pg": ("connect",),
    "aiopg": ("connect", "create_pool"),
    "adbc_driver_postgresql.dbapi": ("connect",),
    "adbc_driver_sqlite.dbapi": ("connect",),
    "adbc_driver_manager": ("AdbcDatabase",),
    "adbc_driver_manager._lib": ("AdbcDatabase",),
    "adbc_driver_manager.dbapi": ("connect",),
    "pymysql": ("connect", "Connect", "Connection"),
    "pymysql.connections": ("Connection",),
    "MySQLdb": ("connect", "Connect", "Connection"),
    "MySQLdb._mysql": ("connect", "connection"),
    "MySQLdb.connections": ("Connection",),
    "mysql.connector": ("connect", "Connect", "MySQLConnection"),
    "mysql.connector.aio": ("connect",),
    "mysql.connector.pooling": ("connect", "MySQLConnectionPool"),
    "_mysql_connector": ("MySQL",),
    "mariadb": ("connect", "Connection"),
    "aiomysql": ("connect", "create_pool"),
    "asyncmy": ("connect", "create_pool"),
    "oracledb": ("connect", "connect_async", "create_pool"),
    "cx_Oracle": ("connect", "Connection"),
    "pyodbc": ("connect",),
    "aioodbc": ("connect", "create_pool"),
    "pymssql": ("connect",),
    "duckdb": ("connect", "sql", "query", "execute", "executemany"),
    "duckdb.duckdb": ("connect", "sql", "query", "execute", "executemany"),
    "_duckdb": ("connect", "sql", "query", "execute", "executemany"),
    "snowflake.connector": ("connect",),
    "clickhouse_driver": ("connect", "Client"),
    "redshift_connector": ("connect",),
    "psqlpy": ("connect", "connect_pool", "Connection", "ConnectionPool"),
    "connectorx": ("read_sql",),
    "ibm_db": ("connect", "pconnect"),
    "ibm_db_dbi": ("connect", "pconnect"),
    "fdb": ("connect",),
    "firebird.driver": ("connect",),
    "turbodbc": ("connect",),
    "hdbcli.dbapi": ("connect", "Connection"),
    "chdb": ("connect", "query"),
    "apsw": ("Connection",),
    "pysqlite3": ("connect", "Connection"),
    "pysqlite3.dbapi2": ("connect", "Connection"),
    "sqlcipher3": ("connect", "Connection"),
    "sqlcipher3.dbapi2": ("connect", "Connection"),
    "pysqlcipher3.dbapi2": ("connect", "Connection"),
    "libsql": ("connect",),
    "libsql_experimental": ("connect",),
}
"""What opens a connection, by module; after a dot, of a class in it."""
LATE = {"psycopg_c.pq": "psycopg_c._psycopg", "psycopg_binary.pq": "psycopg_binary._psycopg"}
"""Modules whose types the C code of another one looks up as it is imported: closed when that is there."""
HANDLE = ("connect", "connect_start", "connect_poll", "ping")
"""What opens a connection, where a class does that by functions of its own."""
LOADING = frozenset({"psycopg.pq._pq_ctypes"})
"""Modules in the above that load the library of a database by ctypes, as they are imported."""


def is_loading() -> bool:
    """Tell whether a driver is being imported that takes its library into Python itself; it is closed right after."""
    frame = sys._getframe()  # noqa: SLF001 - there is no other way to ask who calls
    while frame is not None:
        if frame.f_globals.get("__name__") in LOADING:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


class Watcher(MetaPathFinder):
    """Finds what the others find, with a loader that closes the module before anybody gets it.

    `refuse` is called with a name instead of opening a connection. Looking for a module and never loading it, as
    `importlib.util.find_spec` does, uses nothing up.
    """

    def __init__(self, refuse: Callable[[str], NoReturn]) -> None:
        self._refuse = refuse
        self._aim: Aim | None = None

    def watch(self) -> None:
        """Begin. Modules that are imported already are changed now."""
        self.come_first()
        for name in OPENING:
            self.close(name)

    def aim(self, aim: Aim) -> None:
        """Lead drivers to a draft from now on, those of its kind."""
        self._aim = aim

    def open(
        self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Do what `name` is asked to do, but on the draft, or refuse."""
        aim = self.require(name)
        forget(os.environ)
        return WAYS[name](aim, call, arguments, options)

    def require(self, name: str) -> Aim:
        """Refuse what is not led to a draft."""
        if self._aim is None or name not in WAYS:
            self._refuse(name)
        return self._aim

    def come_first(self) -> None:
        """Be asked before all finders: one that came before could find a driver that is then not closed."""
        if not sys.meta_path or sys.meta_path[0] is not self:
            sys.meta_path[:] = [self, *(each for each in sys.meta_path if each is not self)]

    def find_spec(  # noqa: D102 - as the import system has it
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in OPENING:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ClosingLoader(spec.loader, self)
                return spec
        return None

    def close(self, module: str) -> None:
        """Take from a module that is there what opens connections; from one that waited for it, too."""
        waiting = [early for early, late in LATE.items() if late == module]
        due = [] if LATE.get(module, module) not in sys.modules else [module]
        for name in due + waiting:
            if name in sys.modules:
                self._close(sys.modules[name], name)

    def _close(self, module: ModuleType, module_name: str) -> None:
        for name in OPENING[module_name]:
            *owners, attribute = name.split(".")
            owner: Any = module
            for each in owners:
                owner = getattr(owner, each, None)
            if hasattr(owner, attribute):
                self._replace(owner, attribute, f"{module_name}.{name}")

    def _replace(self, owner: Any, attribute: str, name: str) -> None:
        before = getattr(owner, attribute)
        if isinstance(before, type):
            replacement: Any = _front(before, self, name)
        elif not isinstance(owner, type):
            replacement = self.gate(before, name)
        elif isinstance(vars(owner).get(attribute), classmethod):
            replacement = self._gate_of_class(vars(owner)[attribute], name)
        else:
            replacement = staticmethod(self.gate(before, name))
        try:
            setattr(owner, attribute, replacement)
        except (
            TypeError
        ):  # a class of an extension can't be changed, and is replaced as a whole where it is listed
            return

    def gate(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Put a function in front of another one."""

        def gate(*arguments: Any, **options: Any) -> Any:
            return self.open(name, call, arguments, options)

        return gate

    def _gate_of_class(self, method: Any, name: str) -> Any:
        """A subclass has to be made what is asked of it."""

        def gate(cls: type, *arguments: Any, **options: Any) -> Any:
            return self.open(name, method.__get__(None, cls), arguments, options)

        return classmethod(gate)


def _front(before: type, watcher: Watcher, name: str) -> type:
    """A class of the same name that others may inherit from and ask about, but that opens nothing elsewhere."""
    opening = [each for each in HANDLE if hasattr(before, each)]
    is_handle = "connect_start" in opening  # making one opens nothing yet

    class Kind(type(before)):  # type: ignore[misc]
        """What a driver makes in C is not of the class that stands in front, and has to count as that."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, before) if cls is made else super().__instancecheck__(instance)

    class Front:
        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            watcher.require(name)
            make = super().__new__
            return make(cls) if make is object.__new__ else make(cls, *arguments, **options)

        def __init__(self, *arguments: Any, **options: Any) -> None:
            if is_handle:
                super().__init__(*arguments, **options)
            else:
                watcher.open(name, super().__init__, arguments, options)

    for each in opening:
        setattr(Front, each, staticmethod(watcher.gate(getattr(before, each), name)))
    try:
        made: type = Kind(before.__name__, (Front, before), {"__module__": before.__module__})
    except TypeError:  # final, as some classes of extensions are
        made = Front
    return made


class _ClosingLoader(Loader):
    def __init__(self, loader: Any, watcher: Watcher) -> None:
        self._loader = loader
        self._watcher = watcher

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec) if hasattr(self._loader, "create_module") else None

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._watcher.close(module.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

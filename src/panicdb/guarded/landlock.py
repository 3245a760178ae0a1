"""What the kernel can forbid, where it has Landlock: writing outside one directory, and connections over TCP.

The numbers are those of the kernel's interface (https://docs.kernel.org/userspace-api/landlock.html); the system calls
have the same numbers on every architecture. Everything that this process starts inherits what it may not do.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE = sum(1 << bit for bit in range(6, 13))
_REFER = 1 << 13
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_REFER_SINCE, _TRUNCATE_SINCE, _TCP_SINCE = 2, 3, 4
HARMLESS = ("/dev/null",)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """Return which version of Landlock the kernel offers; 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION_FLAG))


def restrict(directories: Iterable[str], *, network: bool) -> str:
    """Allow this process to write below `directories` only, and without `network` no TCP. Can't be undone.

    Call it before threads are started: it binds the calling one and what comes after it. Returns what is in force, in
    words; empty where the kernel has nothing to offer. Raises OSError where it offers and then refuses.
    """
    offered = version()
    if not offered:
        return ""
    writing = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE
    writing |= _REFER if offered >= _REFER_SINCE else 0
    writing |= _TRUNCATE if offered >= _TRUNCATE_SINCE else 0
    tcp = 0 if network or offered < _TCP_SINCE else _BIND_TCP | _CONNECT_TCP
    rules = _Ruleset(writing, tcp)
    size = ctypes.sizeof(rules) if offered >= _TCP_SINCE else ctypes.sizeof(ctypes.c_uint64)
    ruleset = _checked(_call(_CREATE_RULESET, ctypes.byref(rules), size, 0))
    try:
        for directory in directories:
            _allow(ruleset, directory, writing)
        for file in HARMLESS:
            _allow(ruleset, file, writing & (_WRITE_FILE | _TRUNCATE))
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(_call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return "Landlock (files, TCP)" if tcp else "Landlock (files)"


def _allow(ruleset: int, path: str, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(rights, parent)
        _checked(_call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(parent)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno() or errno.EPERM
        raise OSError(code, os.strerror(code))
    return result

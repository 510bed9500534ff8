"""Runs the test suite of a library in a guest: `clasp run suites.wasm LIBRARY`.

A test that needs what WebAssembly has not is skipped, with the reason. Prints a line for each test
that was not passed, and how many were.
"""

import fnmatch
import gc
import importlib
import os
import pkgutil
import sys
import tempfile
import types

# Tests write where the guest may, which while this component is made is nowhere.
tempfile.tempdir = "/tmp"

# Modules that are loaded when they are needed: a guest has none but those that are loaded now.
for name in (
    "_ast_unparse asyncio code concurrent.futures doctest encodings.ascii encodings.latin_1 "
    "encodings.unicode_escape encodings.utf_16 encodings.utf_8_sig faulthandler fractions "
    "importlib.metadata importlib.resources locale logging.handlers pathlib pdb pickle shutil "
    "signal socket subprocess sysconfig textwrap threading tracemalloc typing_extensions "
    "unittest.mock uuid xml.etree.ElementTree zipfile"
).split():
    importlib.import_module(name)

import concurrent.futures
import subprocess
import threading

import _pytest
import pytest

for module in pkgutil.walk_packages(_pytest.__path__, "_pytest."):
    importlib.import_module(module.name)


def _lacks(what):
    def skip(*_arguments, **_named):
        pytest.skip(f"a guest has no {what}")

    return skip


class _Missing(types.ModuleType):
    """A module whose functions and classes skip the test that calls them."""

    def __init__(self, name):
        super().__init__(name)
        self.__path__ = []
        self.set_start_method = lambda *_: None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _lacks("processes")


for name in ("connection", "context", "managers", "process", "queues", "synchronize", ""):
    name = f"multiprocessing.{name}".rstrip(".")
    sys.modules[name] = _Missing(name)
sys.modules["diskcache"] = _Missing("diskcache")
threading.Thread.start = _lacks("threads")
subprocess.Popen.__init__ = _lacks("processes")
os.fork = _lacks("processes")
os.getuid = os.geteuid = lambda: 1000
# WASI has no modes of files. Setting them has no effect.
os.umask = lambda _mask: 0o022
os.fchmod = lambda _fd, _mode: None


class _Executor:
    def __init__(self, *_arguments, **_named):
        pytest.skip("a guest has no threads")


concurrent.futures.ThreadPoolExecutor = concurrent.futures.ProcessPoolExecutor = _Executor

import fcntl
import fasteners
import filelock
import portalocker
import portalocker.__main__
import pytest_asyncio.plugin
import pytest_mock
import more_itertools

for package in (fasteners, filelock, portalocker, more_itertools):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            importlib.import_module(module.name)
        except ImportError:
            # It is for Windows, or needs a package that the tests do without.
            pass

from wit_world import exports

# By library: where its tests are, options of pytest, and tests that are left out, as patterns of
# their names, with the reason.
_MODES = "WASI has no modes of files"
_SOFT = "a soft lock makes no call of fcntl"
_SUITES = {
    "fasteners": (["tests"], {}),
    "filelock": (
        ["tests/core", "tests/native"],
        {
            "*Soft*": _SOFT,
            "*deadlock[[]*": _SOFT,
            "*test_unix_fallback*": _SOFT,
            "*_fallback_*": _SOFT,
            "*_leased_*": _SOFT,
            "*async*": "asyncio needs sockets, which `clasp run` does not grant",
            "*coroutine*": "asyncio needs sockets, which `clasp run` does not grant",
            "*test_final_symlink_backend*": "WASI makes no links to absolute paths",
            "*test_bad_lock_file[[]blank_filename*": "for WASI an empty path is the directory",
            "*without_working_directory*": "the working directory is a path that the guest notes",
            "*_retries_after_the_link_count_*": "replaces `fstat` with one that tells no file",
            "*test_hard_link_in_a_shared_directory*": _MODES,
            "*_ro_file*": _MODES,
            "*_readonly_lock_file_*": _MODES,
            "*_denied_*": _MODES,
            "*_denies_*": _MODES,
            "*_after_read_only_open_*": _MODES,
            "*_requires_exchange_*": _MODES,
            "*_after_mode": _MODES,
            "*_umask*": _MODES,
            "*_lock_mode": _MODES,
            "*_applies_mode": _MODES,
            "*_holder_mode": _MODES,
            "*_strict_*director*": _MODES,
            "*_leaves_existing_file_as_found*": _MODES,
        },
    ),
    "portalocker": (
        ["portalocker_tests"],
        {
            "*redis*": "needs a server of Redis",
            "*test_truncate": "WASI keeps a file for appending at its end, also for reading",
            "*_mode_yields_*": "WASI keeps a file for appending at its end, also for reading",
            "*_dangling_symlink_*": "WASI makes no links to absolute paths",
            "*_fallback_pyproject": "reads the project's sources",
        },
    ),
}


class Suite:
    """Leaves out what a guest cannot run."""

    def __init__(self, left_out):
        self.left_out = left_out
        self.used = set()

    def _reason(self, name):
        for pattern, reason in self.left_out.items():
            if fnmatch.fnmatchcase(name, pattern):
                self.used.add(pattern)
                return reason

    def pytest_ignore_collect(self, collection_path):
        reason = self._reason(collection_path.name) if collection_path.suffix == ".py" else None
        if reason:
            print("skipped", collection_path.name, reason)
            return True

    def pytest_collection_modifyitems(self, items):
        for item in items:
            reason = self._reason(item.nodeid)
            if reason:
                # What passes none the less is counted.
                mark = pytest.mark.skip if reason is _SOFT else pytest.mark.xfail
                item.add_marker(mark(reason=reason))
        for pattern in self.left_out.keys() - self.used:
            print("failed: no test has the name", pattern)


class Report:
    """Says what became of each test."""

    def __init__(self):
        self.passed = 0
        self.skipped = set()

    def pytest_runtest_logreport(self, report):
        if report.nodeid in self.skipped:
            # What it would have made is missing when it is to be removed.
            return
        if report.skipped:
            self.skipped.add(report.nodeid)
            reason = getattr(report, "wasxfail", None) or report.longrepr[2]
            print("skipped", report.nodeid, reason.removeprefix("Skipped: "))
        elif report.failed:
            print("failed", report.nodeid, report.when)
            print(report.longreprtext)
        elif report.when == "call":
            self.passed += 1
        sys.stdout.flush()

    def pytest_collectreport(self, report):
        if not report.passed:
            print("failed" if report.failed else "skipped", report.nodeid, "to load")
            print(report.longrepr)


class Run(exports.Run):
    def run(self):
        # filelock's suite collects garbage after each test.
        gc.freeze()
        sys.dont_write_bytecode = True
        report = Report()
        directory = sys.argv[1]
        tests, left_out = _SUITES[directory]
        plugins = "no:cacheprovider no:faulthandler no:threadexception no:debugging no:terminal "
        plugins += "pytest_mock pytest_asyncio.plugin"
        options = [part for plugin in plugins.split() for part in ("-p", plugin)]
        options += ["-s", "--basetemp=/tmp/pytest", "-c", "/pytest.ini", "--rootdir=."]
        options += ["-o", "asyncio_default_fixture_loop_scope=session"]
        os.chdir(directory)
        sys.path[:0] = [".", "tasks"]
        pytest.main([*options, *tests, *sys.argv[2:]], plugins=[Suite(left_out), report])
        print("passed", report.passed)

"""CPython's own tests of `concurrent.futures`, with our executor in the place of its pools.

Run it as a program, with unittest's options, where `test.test_concurrent_futures` can be imported: in an interpreter that
has it, or with a folder on PYTHONPATH that `gather` has made. It prints how many tests passed, failed and don't apply.
"""

import contextlib
import importlib
import logging
import multiprocessing
import os
import shutil
import sys
import sysconfig
import types
import unittest
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import handoff_actors as handoff

PACKAGE = "test.test_concurrent_futures"
ON_A_LATER_SUITE = (
    "executor",
    "test_wait",
    "test_as_completed",
    "test_shutdown",
    "test_init",
    "test_deadlock",
    "test_process_pool",
)
#: The place of the tests in Debian's package libpython3.11-testsuite.
DEBIAN = Path("/usr/lib/python3.11/test")

PROCESSES = "it looks at a process pool's own list of processes"
START_METHODS = "it is about multiprocessing's start methods, or about max_tasks_per_child"
MILDER = "only the future concerned has the user's own exception; a process pool breaks"
NOT_APPLICABLE = {
    "test_max_workers_too_large": "it is about Windows",
    "test_killed_child": "a worker that is killed is replaced, and what it ran is run again",
    "test_traceback": "it wants the type of the cause to be a private class; see tests/integrations for the rest",
    "test_traceback_when_child_process_terminates_abruptly": PROCESSES,
    "test_ressources_gced_in_workers": "it shares a multiprocessing manager with workers by inheritance of its key",
    "test_saturation": PROCESSES,
    "test_idle_process_reuse_one": PROCESSES,
    "test_idle_process_reuse_multiple": PROCESSES,
    "test_python_finalization_error": PROCESSES,
    "test_max_tasks_per_child": START_METHODS,
    "test_max_tasks_per_child_defaults_to_spawn_context": START_METHODS,
    "test_max_tasks_early_shutdown": START_METHODS,
    "test_processes_terminate": PROCESSES,
    "test_context_manager_shutdown": PROCESSES,
    "test_del_shutdown": PROCESSES,
    "test_shutdown_no_wait": PROCESSES,
    "test_error_at_task_unpickle": MILDER,
    "test_exit_at_task_unpickle": MILDER,
    "test_error_during_result_unpickle_in_result_handler": MILDER,
    "test_exit_during_result_unpickle_in_result_handler": MILDER,
    "test_shutdown_deadlock_pickle": "it joins a process pool's own thread",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "it replaces a process pool's own pipe",
    "test_hang_gh94440": START_METHODS,
    "test_spawn": START_METHODS,
    "test_forkserver": START_METHODS,
}
#: The later suite has it in a class of thread pools too, which is theirs alone.
CLASSES = (
    "ProcessPoolExecutorTest",
    "WaitTests",
    "AsCompletedTests",
    "ProcessPoolShutdownTest",
    "InitializerMixin",
    "FailingInitializerMixin",
    "ExecutorDeadlockTest",
)
INITIALIZER_LOG = "handoff_actors.integrations.feed"


class HandoffExecutor(handoff.Executor):
    """Made as a process pool is."""

    def __init__(self, max_workers: int | None = None, *, mp_context: object = None, **options: Any) -> None:
        super().__init__(max_workers, **options)
        self._max_workers = max_workers

    @property
    def _broken(self) -> bool:
        return self._feed.broken is not None


class HandoffMixin:
    """The replacement of `ProcessPoolSpawnMixin`."""

    executor_type = HandoffExecutor

    def get_context(self) -> Any:
        return multiprocessing.get_context("spawn")

    @contextlib.contextmanager
    def _assert_logged(self, text: str) -> Iterator[None]:
        assert isinstance(self, unittest.TestCase)
        with self.assertLogs(INITIALIZER_LOG, logging.CRITICAL) as logged:
            yield
        assert any(text in line for line in logged.output), logged.output


def source() -> Path | None:
    """The folder named `test` that has the suite, in this interpreter's library or in Debian's."""
    own = Path(sysconfig.get_path("stdlib")) / "test"
    given = os.environ.get("CPYTHON_TESTS")
    places = [Path(given)] if given else [own, DEBIAN]
    return next((place for place in places if list(place.glob("test_concurrent_futures*"))), None)


def gather(place: Path, to: Path) -> None:
    """Make a package `test` below `to` of this interpreter's own support code and the suite at `place`."""
    own = Path(sysconfig.get_path("stdlib")) / "test"
    skip = shutil.ignore_patterns("__pycache__", "test_*")
    shutil.copytree(own, to / "test", ignore=skip)
    for found in place.glob("test_concurrent_futures*"):
        if found.is_dir():
            shutil.copytree(found, to / "test" / found.name)
        else:
            shutil.copy(found, to / "test")


def cases() -> list[type[unittest.TestCase]]:
    """The suite's classes, over our executor."""
    modules = _modules()
    for module in modules:
        _adapt(module)
    base = _find(modules, "BaseTestCase")
    skipped = {name: unittest.skip(why) for name, why in NOT_APPLICABLE.items()}
    found = []
    for name in CLASSES:
        mixin = _find(modules, name)
        body = {test: skip(getattr(mixin, test)) for test, skip in skipped.items() if hasattr(mixin, test)}
        parts = (HandoffMixin, mixin, _find(modules, "ExecutorMixin"), base)
        bases = tuple(
            part
            for part in parts
            if part is not _find(modules, "ExecutorMixin") or not issubclass(mixin, part)
        )
        found.append(type(f"Handoff{name}", bases, {**body, "__module__": mixin.__module__}))
    return found


def _modules() -> list[types.ModuleType]:
    package = importlib.import_module(PACKAGE)
    if not hasattr(package, "__path__"):
        return [package]
    return [importlib.import_module(f"{PACKAGE}.{name}") for name in ON_A_LATER_SUITE]


def _find(modules: Sequence[types.ModuleType], name: str) -> Any:
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def _adapt(module: types.ModuleType) -> None:
    """Have its programs import our executor, and expect what any broken executor raises."""
    if hasattr(module, "BrokenProcessPool"):
        setattr(module, "BrokenProcessPool", futures.BrokenExecutor)  # noqa: B010 - the type of a module has no such name
    run = getattr(module, "assert_python_ok", None)
    if run is not None:
        setattr(module, "assert_python_ok", _with_ours(run))  # noqa: B010 - as above


def _with_ours(run: Callable[..., Any]) -> Callable[..., Any]:
    def assert_python_ok(option: str, program: str) -> Any:
        ours = program.replace(
            "from concurrent.futures import HandoffExecutor",
            "from handoff_actors import Executor as HandoffExecutor",
        )
        return run(option, ours, PYTHONPATH=os.pathsep.join(sys.path), __isolated=False)

    return assert_python_ok


def load_tests(loader: unittest.TestLoader, _tests: object, _pattern: object) -> unittest.TestSuite:
    """Unittest's protocol."""
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases())


class CountingResult(unittest.TextTestResult):
    """Prints the counts at the end."""

    def stopTestRun(self) -> None:  # noqa: N802 - unittest's name
        bad = len(self.failures) + len(self.errors)
        # On a line of its own: some versions of the suite print durations, which stdout may hold back until now.
        print(
            f"\n{self.testsRun - bad - len(self.skipped)} passed, {bad} failed, {len(self.skipped)} not applicable",
            flush=True,
        )


if __name__ == "__main__":
    unittest.main(
        testRunner=unittest.TextTestRunner(resultclass=CountingResult, verbosity=2),  # type: ignore[arg-type]  # its stub is generic
    )

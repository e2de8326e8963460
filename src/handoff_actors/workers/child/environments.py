"""The environment of a sync worker's jobs: variables, and a directory to work in and to import from.

A process has one environment, and a sync worker runs one job at a time. So the worker sets up the environment that a job
asks for before the job, and undoes it before the first job that asks for another. Modules that were imported from a
directory are removed with it, as another directory may have modules of the same names; they return with the directory.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Final

from handoff_actors.workers.child.own_modules import JobModules, ModulesInUse
from handoff_actors.workers.child.process.parts import renew_what_variables_determine
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.threads import Threads

_READ_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


class EnvironmentUnavailable(Exception):
    """The environment that a job asks for can't be provided on this node."""


class JobEnvironment:
    """An environment that jobs of a run ask for."""

    __slots__ = ("directory", "modules", "package", "run", "variables")

    def __init__(self, run: int, variables: Mapping[str, str], directory: str, package: int | None) -> None:
        self.run = run
        self.variables = variables
        #: "": the node's own.
        self.directory = directory
        #: The stored value with what is in the directory, for nodes that lack it.
        self.package = package
        #: Modules that have been imported from the directory.
        self.modules: dict[str, ModuleType] = {}


class Environments:
    """The environment that this process has now."""

    def __init__(self, store: WorkerStore, changed: Callable[[], None]) -> None:
        """`changed` is told that variables, or the directory, have been changed for the jobs that follow."""
        self._store = store
        self._changed = changed
        self._threads = Threads()
        self._modules = ModulesInUse()
        #: None: the environment that the process was started with.
        self.entered: JobEnvironment | None = None
        #: The variables' values before; None: not set.
        self._former: dict[str, str | None] = {}
        #: The directory that the process works in, if that is not its own, and a descriptor of its own.
        self._directory = ""
        self._way_back = -1
        self._known_modules: frozenset[str] = frozenset()

    def enter(
        self, environment: JobEnvironment | None, threads: int, modules: JobModules | None = None
    ) -> None:
        """Set up an environment for the jobs that follow, and the modules of their app's own.

        Raises EnvironmentUnavailable; then the process has the environment that it was started with. Raises
        SerializationError if the modules can't be had.
        """
        if environment is not self.entered or threads != self._threads.most:
            try:
                self._change(environment, threads)
            finally:
                self._changed()
        if modules is not self._modules.entered:
            self._modules.enter(modules)

    def _change(self, environment: JobEnvironment | None, threads: int) -> None:
        if threads != self._threads.most:
            # Leaving would set variables back to their present values, and undo this limit.
            self._leave()
            self._threads.limit(threads)
        if environment is not self.entered:
            self._leave()
            if environment is not None:
                self._set_up(environment)

    def _set_up(self, environment: JobEnvironment) -> None:
        if environment.directory:
            self._work_in(self._find(environment))
            sys.modules.update(environment.modules)
        for name, value in environment.variables.items():
            self._former[name] = os.environ.get(name)
            os.environ[name] = value
        if self._former:
            renew_what_variables_determine()
        self.entered = environment

    def _find(self, environment: JobEnvironment) -> str:
        if os.path.isdir(environment.directory):  # noqa: PTH112 - pathlib takes longer, and this is in a worker
            return environment.directory
        if environment.package is None:
            raise EnvironmentUnavailable(
                f"working_dir {environment.directory!r} is no directory on this node, nor one of the app's that could"
                " be sent; create it on the node, or run the function where it is (node=...)"
            )
        try:
            return str(self._store.unpack(environment.run, environment.package))
        except OSError as error:
            raise EnvironmentUnavailable(
                f"working_dir {environment.directory!r} has come from the app and can't be unpacked: {error}"
            ) from error

    def _work_in(self, directory: str) -> None:
        way_back = os.open(".", _READ_DIRECTORY)
        try:
            os.chdir(directory)
        except OSError as error:
            os.close(way_back)
            raise EnvironmentUnavailable(
                f"working_dir {directory!r} can't be entered: {error.strerror}"
            ) from error
        self._directory, self._way_back = directory, way_back
        sys.path.insert(0, directory)
        self._known_modules = frozenset(sys.modules)

    def _leave(self) -> None:
        environment, self.entered = self.entered, None
        for name, value in self._former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._former:
            renew_what_variables_determine()
        self._former.clear()
        if self._directory:
            if environment is not None:
                self._put_away_modules(environment)
            with suppress(ValueError):
                sys.path.remove(self._directory)
            os.fchdir(self._way_back)
            os.close(self._way_back)
            self._directory, self._way_back = "", -1

    def _put_away_modules(self, environment: JobEnvironment) -> None:
        inside = self._directory.rstrip(os.sep) + os.sep
        for name in sys.modules.keys() - self._known_modules:
            if any(place.startswith(inside) for place in _places_of(sys.modules[name])):
                environment.modules[name] = sys.modules.pop(name)


def _places_of(module: ModuleType) -> list[str]:
    """Give the places that a module was found in: its file, or the directories of a package without one."""
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return []
    return [spec.origin or "", *(f"{place}{os.sep}" for place in spec.submodule_search_locations or ())]

"""Templates in a worker: code and settings that jobs of a run have in common."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any, Final

from handoff_actors.lru import LruCache
from handoff_actors.moving_average import UNKNOWN
from handoff_actors.wire.payload import load_code
from handoff_actors.workers.child.environments import JobEnvironment
from handoff_actors.workers.child.records import log_from
from handoff_actors.workers.protocol import CODES_KEPT, CODES_KEPT_NBYTES, DefineTemplate

#: How quickly the estimate follows when calls get faster.
DECAY: Final = 0.2


class CachedCode:
    """A user's function, loaded when it is first needed, so that a failure to load is its job's."""

    __slots__ = ("_by_reference", "_encoded", "_function", "seconds")

    def __init__(self, *, by_reference: bool, encoded: bytes) -> None:
        self._by_reference = by_reference
        self._encoded = encoded
        self._function: Callable[..., Any] | None = None
        #: The duration of a call. Rises at once, falls slowly; infinite before the first call.
        self.seconds = UNKNOWN

    def load(self) -> Callable[..., Any]:
        """Give the function. Raises SerializationError, each time."""
        if self._function is None:
            function = load_code(self._by_reference, self._encoded)
            if not self._by_reference:
                _publish_main(function)
            self._function = function
            self._encoded = b""
        return self._function


class LoadedTemplate:
    """A run's template."""

    __slots__ = ("as_list", "claims_memory", "code", "environment", "sends_output", "threads")

    def __init__(
        self,
        code: CachedCode,
        *,
        as_list: bool,
        claims_memory: bool,
        threads: int,
        sends_output: bool,
        environment: JobEnvironment | None,
    ) -> None:
        self.code = code
        self.as_list = as_list
        self.claims_memory = claims_memory
        #: How many threads numerical libraries may start for its functions.
        self.threads = threads
        #: The app wants the output of its functions.
        self.sends_output = sends_output
        self.environment = environment


class LoadedTemplates:
    """The templates that the node has sent to this worker, by run."""

    def __init__(self) -> None:
        self._codes: LruCache[bytes, CachedCode] = LruCache(CODES_KEPT, CODES_KEPT_NBYTES)
        self._runs: dict[int, dict[int, LoadedTemplate]] = {}
        #: Templates of a run that ask for the same environment share it: from one to the other nothing changes.
        self._environments: dict[int, list[JobEnvironment]] = {}

    def define(self, message: DefineTemplate) -> None:
        """Add a template."""
        code = self._codes.get(message.digest)
        if code is None:
            assert message.code is not None, "the pool keeps the same count of codes"
            code = CachedCode(by_reference=message.by_reference, encoded=message.code)
            self._codes.put(message.digest, code, len(message.code))
        if message.log_level is not None:
            log_from(message.log_level)
        self._runs.setdefault(message.run, {})[message.number] = LoadedTemplate(
            code,
            as_list=message.as_list,
            claims_memory=message.claims_memory,
            threads=message.threads,
            sends_output=message.log_level is not None,
            environment=self._environment(message),
        )

    def of(self, run: int) -> dict[int, LoadedTemplate]:
        """Give the run's templates by number."""
        return self._runs[run]

    def forget(self, run: int) -> None:
        """Drop the run's templates; jobs that are already queued keep theirs."""
        self._runs.pop(run, None)
        self._environments.pop(run, None)

    def _environment(self, message: DefineTemplate) -> JobEnvironment | None:
        if message.variables is None:
            return None
        variables = {os.fsdecode(name): os.fsdecode(value) for name, value in message.variables.items()}
        directory = os.fsdecode(message.directory)
        known = self._environments.setdefault(message.run, [])
        for environment in known:
            if (environment.variables, environment.directory) == (variables, directory):
                return environment
        known.append(JobEnvironment(message.run, variables, directory, message.package))
        return known[-1]


def _publish_main(function: Callable[..., Any]) -> None:
    """Let the functions and classes of the app's `__main__` that came with `function` be found by name here.

    Without it a user's function could not hand them to a process pool, which pickles by name.
    """
    if not isinstance(function, FunctionType) or function.__module__ != "__main__":
        return
    main = vars(sys.modules["__main__"])
    for value in (function, *function.__globals__.values()):
        # Globals are any objects, whose __getattr__ answers or raises what it likes.
        with suppress(Exception):
            name = getattr(value, "__qualname__", "")
            if getattr(value, "__module__", None) == "__main__" and name.isidentifier():
                main[name] = value

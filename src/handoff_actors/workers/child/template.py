"""Templates in a worker: code and settings that jobs of a run have in common."""

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from handoff_actors.errors import SerializationError
from handoff_actors.lru import LruCache
from handoff_actors.moving_average import UNKNOWN
from handoff_actors.retry_on import reason_against_retry
from handoff_actors.wire.code.namespaces import Namespaces, leave
from handoff_actors.wire.loaded_code import LoadedCode
from handoff_actors.workers.child.environments import JobEnvironment
from handoff_actors.workers.child.loading import load
from handoff_actors.workers.child.own_modules import JobModules
from handoff_actors.workers.child.records import log_from
from handoff_actors.workers.protocol import (
    CODES_KEPT,
    CODES_KEPT_NBYTES,
    MODULES_KEPT,
    DefineModules,
    DefineTemplate,
)

#: How quickly the estimate follows when calls get faster.
DECAY: Final = 0.2
#: Garbage is collected after so many bytes of code and globals have gone: it may not be for long otherwise.
_LITTER_NBYTES: Final = 16 * 2**20
#: Sessions whose globals a worker keeps, besides those whose code it keeps.
_SESSIONS_KEPT: Final = 16


class CachedCode(LoadedCode):
    """A user's function, kept for later runs."""

    __slots__ = ("seconds",)

    def __init__(self, *, by_reference: bool, encoded: bytes) -> None:
        super().__init__(by_reference=by_reference, encoded=encoded)
        #: The duration of a call. Rises at once, falls slowly; infinite before the first call.
        self.seconds = UNKNOWN

    def load_first(self) -> Callable[..., Any]:
        """See LoadedCode. Raises UnguardedStart, too."""
        return load(self.module, super().load_first)


class LoadedTemplate:
    """A run's template."""

    __slots__ = (
        "as_list", "claims_memory", "code", "conditions", "environment", "modules", "namespaces", "placed_from", "retry_on",
        "runs_anyway", "sends_digests", "sends_output", "sends_values", "threads", "warm", "warm_name",
    )  # fmt: skip

    def __init__(
        self,
        message: DefineTemplate,
        code: CachedCode,
        environment: JobEnvironment | None,
        namespaces: Namespaces,
        modules: JobModules | None,
    ) -> None:
        self.code = code
        self.as_list = message.as_list
        #: Results from here on stand for placeholders within the constants; None: there are none.
        self.placed_from = message.placed_from
        self.claims_memory = message.claims_memory
        #: How many threads numerical libraries may start for its functions.
        self.threads = message.threads
        #: The app wants the output of its functions.
        self.sends_output = message.log_level is not None
        #: The app wants the values that its functions emit.
        self.sends_values = message.sends_values
        #: The app wants digests with graphs that its functions return.
        self.sends_digests = message.sends_digests
        self.environment = environment
        #: The globals of code by value of its session.
        self.namespaces = namespaces
        self.modules = modules
        rule = message.retry_on
        #: None: the default rule.
        self.retry_on = LoadedCode(by_reference=False, encoded=rule) if rule else None
        #: Functions are called with SKIP, and with errors, in place of results.
        self.runs_anyway = message.runs_anyway
        #: So many of the last args are conditions.
        self.conditions = message.conditions
        #: Identifies the object that the code makes and that stays here, and its name; None: it makes results.
        self.warm = message.warm
        self.warm_name = message.warm_name

    def reason_against_retry(self, error: BaseException) -> str:
        """Return "" if `retry_on` allows another try after a user's exception; else why not. Never raises."""
        if self.retry_on is None:
            return reason_against_retry(None, error)
        try:
            rule = self.retry_on.load()
        except SerializationError as unloadable:
            return f"its retry_on can't be loaded: {unloadable}"
        # It is `reason_against_retry` of the user's rule.
        return str(rule(error))


class LoadedTemplates:
    """The templates that the node has sent to this worker, by run."""

    def __init__(self) -> None:
        self._codes: LruCache[bytes, CachedCode] = LruCache(CODES_KEPT, CODES_KEPT_NBYTES)
        #: By session. Those that code is kept of are there as long as the code, whose globals they are.
        self._namespaces: WeakValueDictionary[str, Namespaces] = WeakValueDictionary()
        self._recent: LruCache[str, Namespaces] = LruCache(_SESSIONS_KEPT, CODES_KEPT_NBYTES)
        self._session_of: dict[int, str] = {}
        #: Bytes of code and globals that have gone since garbage was collected.
        self._freed = 0
        self._modules: LruCache[bytes, JobModules] = LruCache(MODULES_KEPT)
        self._runs: dict[int, dict[int, LoadedTemplate]] = {}
        #: Templates of a run that ask for the same environment share it: from one to the other nothing changes.
        self._environments: dict[int, list[JobEnvironment]] = {}

    def define(self, message: DefineTemplate) -> None:
        """Add a template."""
        code = self._codes.get(message.digest)
        if code is None:
            assert message.code is not None, "the pool keeps the same count of codes"
            code = CachedCode(by_reference=message.by_reference, encoded=message.code)
            self._freed += self._codes.put(message.digest, code, len(message.code))
        if message.log_level is not None:
            log_from(message.log_level)
        self._session_of[message.run] = message.session
        self._runs.setdefault(message.run, {})[message.number] = LoadedTemplate(
            message,
            code,
            self._environment(message),
            self._namespaces_of(message.session),
            None if message.modules is None else self._modules.get(message.modules),
        )

    def define_modules(self, message: DefineModules) -> None:
        """Add a set of modules."""
        self._modules.put(
            message.name,
            JobModules(self._namespaces_of(message.session), message.sources, message.definitions),
        )

    def of(self, run: int) -> dict[int, LoadedTemplate]:
        """Give the run's templates by number."""
        return self._runs[run]

    def forget(self, run: int, numbers: Sequence[int] | None = None) -> None:
        """Drop some of the run's templates, or all. Jobs that are already queued keep theirs."""
        if numbers is None:
            self._forget_run(run)
        else:
            templates = self._runs[run]
            for number in numbers:
                del templates[number]
            used = {template.environment for template in templates.values()}
            known = self._environments.get(run, [])
            known[:] = [environment for environment in known if environment in used]
        if self._freed >= _LITTER_NBYTES:
            # Functions and their globals refer to one another.
            self._freed = 0
            gc.collect()

    def _forget_run(self, run: int) -> None:
        self._runs.pop(run, None)
        self._environments.pop(run, None)
        session = self._session_of.pop(run, "")
        namespaces = self._namespaces.get(session)
        if namespaces is not None:
            self._freed += self._recent.put(session, namespaces, namespaces.nbytes)
            if session not in self._recent:
                leave(namespaces)
            del namespaces

    def _namespaces_of(self, session: str) -> Namespaces:
        known = self._namespaces.get(session)
        if known is None:
            known = self._namespaces[session] = Namespaces()
        self._freed += self._recent.put(session, known, known.nbytes)
        return known

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

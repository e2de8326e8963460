"""Functions with the option `cache`: their results are looked up before a run, and written down as they are done.

A result is found by the fingerprint of its function, which is made of its code and inputs, and not of its id. An input that
is itself a result counts by the fingerprint of the function that makes it.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from handoff_actors.actors.app.digests import digests_of
from handoff_actors.actors.app.result_cache import ResultCache
from handoff_actors.core.run.resumption import Digests, fingerprints
from handoff_actors.errors import reason_of
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.wire.digest import digest_of

log = logging.getLogger(__name__)

#: Code is digested by its bytecode, and values are pickles: neither is the same in another version of Python.
_PYTHON = repr(sys.version_info[:2]).encode()


class DoneEntry(Protocol):
    """A function that is done; `value` is None where it stayed on a node."""

    @property
    def index(self) -> Index:
        """The function's index."""

    @property
    def value(self) -> bytes | memoryview | None:
        """The encoded value."""


def cached_functions(plan: Plan) -> dict[Index, float]:
    """Return the functions whose results are cached, and for how many seconds."""
    spans = {
        number: spec.cache_s
        for number, spec in enumerate(plan.templates)
        if spec.cache_s is not None and spec.run_if == "success"
    }
    if not spans:
        return {}
    return {index: spans[number] for index, number in enumerate(plan.template_of) if number in spans}


class CachedRun:
    """The cached functions of one run."""

    def __init__(self, ttl_s: Mapping[Index, float], prints: Sequence[bytes], cache: ResultCache) -> None:
        self._ttl_s = ttl_s
        #: The fingerprints of all functions of the run.
        self.fingerprints = prints
        self._cache = cache
        self._loop = asyncio.get_running_loop()
        self._writing: set[asyncio.Future[None]] = set()

    @classmethod
    async def of(cls, plan: Plan) -> "CachedRun | None":
        """Fingerprint the functions of a plan; None if none of them is cached. Raises HandoffError for an unsafe directory."""
        ttl_s = cached_functions(plan)
        if not ttl_s:
            return None
        cache = await asyncio.to_thread(ResultCache)
        digests = await digests_of(plan)
        digests = Digests([_PYTHON] * plan.size, digests.templates, digests.constants, digests.values)
        return cls(ttl_s, await asyncio.to_thread(fingerprints, plan, digests, digest_of), cache)

    async def find(self, known: Mapping[Index, object]) -> dict[Index, bytes]:
        """Return the encoded values of cached functions, except for those that are `known`."""
        wanted = [index for index in self._ttl_s if index not in known]
        return await asyncio.to_thread(self._find, wanted)

    def _find(self, wanted: Sequence[Index]) -> dict[Index, bytes]:
        found: dict[Index, bytes] = {}
        for index in wanted:
            value = self._cache.find(self.fingerprints[index], self._ttl_s[index])
            if value is not None:
                found[index] = value
        return found

    def record(self, entries: Sequence[DoneEntry]) -> None:
        """Have the results of cached functions written."""
        for entry in entries:
            if entry.index in self._ttl_s and entry.value is not None:
                print_, ttl_s = self.fingerprints[entry.index], self._ttl_s[entry.index]
                self._in_thread(self._cache.store, print_, ttl_s, entry.value)

    async def flush(self) -> None:
        """Wait until all is written."""
        if self._writing:
            self._in_thread(self._cache.prune)
            await asyncio.wait(self._writing)

    def _in_thread(self, code: Callable[..., None], *args: object) -> None:
        writing = self._loop.run_in_executor(None, code, *args)
        self._writing.add(writing)
        writing.add_done_callback(self._written)

    def _written(self, writing: "asyncio.Future[None]") -> None:
        self._writing.discard(writing)
        error = writing.exception()
        if isinstance(error, OSError):
            # The run itself has lost nothing.
            log.warning("a result can't be cached", extra={"reason": reason_of(error)})
        elif error is not None:
            raise error

"""Functions with the option `cache`: their results are looked up before they run, and written down as they are done.

A result is found by the fingerprint of its function, which is made of its code and inputs, and not of its id. An input that
is itself a result counts by the fingerprint of the function that makes it.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from handoff_actors.actors.app.journal import Buffer, Entry
from handoff_actors.actors.app.result_cache import ResultCache
from handoff_actors.core.run.facts.resumption import Fingerprints
from handoff_actors.errors import reason_of
from handoff_actors.graph.mapping import adds_cached
from handoff_actors.graph.plan import Plan

log = logging.getLogger(__name__)

#: Code is digested by its bytecode, and values are pickles: neither is the same in another version of Python.
PYTHON_SALT: Final = repr(sys.version_info[:2]).encode()


def is_cached(plan: Plan) -> bool:
    """Tell whether some function of a plan is cached, or is to add functions that are."""
    for spec in plan.templates:
        if (spec.cache_s is not None and spec.run_if == "success") or adds_cached(spec.code):
            return True
    return False


class CachedResults:
    """The cached results that one run takes and writes."""

    def __init__(self) -> None:
        self._cache: ResultCache | None = None
        self._loop = asyncio.get_running_loop()
        self._writing: set[asyncio.Future[None]] = set()
        #: Values that are being written, by fingerprint: a call may follow another one that is like it at once.
        self._fresh: dict[bytes, Buffer] = {}

    def open(self) -> None:
        """Have the directory at hand. It blocks. Raises HandoffError for an unsafe one."""
        if self._cache is None:
            self._cache = ResultCache()

    def find(self, fingerprints: Fingerprints) -> Buffer | None:
        """Return the encoded value of a function; None if it is not cached, or there is none. It blocks."""
        if not fingerprints.cached_as or self._cache is None:
            return None
        (known_as, ttl_s), *_ = fingerprints.cached_as
        fresh = self._fresh.get(known_as)
        return self._cache.find(known_as, ttl_s) if fresh is None else fresh

    def record(self, entries: Sequence[Entry]) -> None:
        """Have the results of cached functions written."""
        if self._cache is None:
            return
        for entry in entries:
            if entry.value is not None:
                for known_as, ttl_s in entry.fingerprints.cached_as:
                    self._fresh[known_as] = entry.value
                    store = partial(self._cache.store, known_as, ttl_s, entry.value)
                    self._in_thread(store).add_done_callback(partial(self._written, known_as, entry.value))

    async def flush(self) -> None:
        """Wait until all is written."""
        if self._cache is not None and self._writing:
            self._in_thread(self._cache.prune)
            await asyncio.wait(self._writing)

    def _in_thread(self, code: Callable[[], None]) -> "asyncio.Future[None]":
        writing = self._loop.run_in_executor(None, code)
        self._writing.add(writing)
        writing.add_done_callback(self._ended)
        return writing

    def _written(self, known_as: bytes, value: Buffer, _: object) -> None:
        if self._fresh.get(known_as) is value:
            del self._fresh[known_as]

    def _ended(self, writing: "asyncio.Future[None]") -> None:
        self._writing.discard(writing)
        error = writing.exception()
        if isinstance(error, OSError):
            # The run itself has lost nothing.
            log.warning("a result can't be cached", extra={"reason": reason_of(error)})
        elif error is not None:
            raise error

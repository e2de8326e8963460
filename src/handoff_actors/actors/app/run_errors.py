"""The errors of a run and of its functions, with the users' own exceptions as their causes."""

import asyncio
from collections.abc import Callable, Iterable
from copy import copy

from handoff_actors.core.run.events import RunEnded
from handoff_actors.core.run.view import RunView
from handoff_actors.errors import DependencyFailed, HandoffError, SerializationError, UnguardedStart
from handoff_actors.ids import Index
from handoff_actors.text import str_of
from handoff_actors.wire.exceptions import decode_exception, encode_exception, loads_at_once


class RunErrors:
    """The errors of one run. Each is given its cause when it is first asked for, and is the same object from then on."""

    def __init__(self, view: RunView) -> None:
        self._view = view
        self._of: dict[Index, HandoffError] = {}
        self._raised: HandoffError | None = None
        #: An encoded exception that was loaded in a thread, and what it is.
        self._loaded: tuple[bytes, BaseException] | None = None

    def of(self, index: Index) -> HandoffError:
        """Return the error of a function that has failed, or depends on one that has."""
        error = self._of.get(index)
        if error is None:
            error = self._of[index] = self._make(index)
        return error

    def forget(self, indices: Iterable[Index]) -> None:
        """Forget the errors of functions that are forgotten."""
        if self._of:
            for index in indices:
                self._of.pop(index, None)

    def encoded(self, index: Index) -> bytes:
        """Return the error of a function, and what led to it, for a function that runs anyway."""
        return encode_exception(self.of(index))

    def load_beside(self, cause: bytes, then: Callable[[], None]) -> bool:
        """Load an exception in a thread, if that may take long, and call `then` on the loop; False if it need not be."""
        # Others not, as the main thread may be importing the module of the exception's class.
        if not cause or loads_at_once(cause):
            return False
        try:
            loading = asyncio.get_running_loop().run_in_executor(None, decode_exception, cause)
        except RuntimeError:
            # The loop is about to end, and has no threads any more.
            return False

        def loaded(future: asyncio.Future[BaseException]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._loaded = (cause, future.result())
            then()

        loading.add_done_callback(loaded)
        return True

    def raised_for(self, end: RunEnded) -> HandoffError | None:
        """Make the error that the run's caller gets; None if the run has ended well, or was cancelled.

        It is a copy: it will refer to the run, which would keep itself alive if it kept the same object.
        """
        if end.error is None:
            return None
        failures = self._view.failures.items()
        index = next((index for index, failure in failures if failure.error is end.error), None)
        error = self._with_cause(end.error, end.cause) if index is None else self.of(index)
        self._raised = copy(error)
        self._raised.__cause__ = error.__cause__
        return self._raised

    def take_raised(self) -> HandoffError:
        """Return that error, once, without keeping it."""
        raised, self._raised = self._raised, None
        assert raised is not None, "a run is awaited by one caller"
        return raised

    def _make(self, index: Index) -> HandoffError:
        own = self._view.failures.get(index)
        if own is not None:
            return self._with_cause(own.error, own.cause)
        hook, failed = self._view.plan.hook_of.get(index), self._view.failed_behind[index]
        if hook is not None and self._view.has_failed(hook.producer):
            # It has worked for nobody: what its consumer lacks is the result of its producer.
            return self.of(hook.producer)
        ids, cause = self._view.plan.ids, self.of(failed)
        first_line, _, _ = str(cause).partition("\n")
        reason = f"{type(cause).__name__}: {first_line}"
        error = DependencyFailed(ids[index], ids[failed], reason)
        error.__cause__ = cause
        return error

    def _with_cause(self, error: HandoffError, encoded: bytes) -> HandoffError:
        """Give the error with its cause; where that is one of ours that says more, it says where it happened instead."""
        if not encoded:
            return error
        known = self._loaded
        cause = known[1] if known is not None and known[0] == encoded else decode_exception(encoded)
        if isinstance(cause, UnguardedStart) and isinstance(error, SerializationError):
            cause.args, cause.function_id = error.args, error.function_id
            return cause
        error.__cause__ = cause
        return error


def as_ours(error: BaseException) -> HandoffError:
    """Return an error of ours for any, which is its cause."""
    if isinstance(error, HandoffError):
        return error
    ours = HandoffError(f"the run can't go on: {type(error).__name__}: {str_of(error)}")
    ours.__cause__ = error
    return ours

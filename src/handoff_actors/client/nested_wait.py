"""Tells the node of a function that the function waits for a run of its own, and so lends its slot and its cpu meanwhile."""

from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.workers.child.running_job import is_beside_coroutines
from handoff_actors.workers.child.surroundings import tell_of_wait
from handoff_actors.workers.nested_waits import WaitChanged


class FunctionWait:
    """The wait of one function for one run, which may begin and end any number of times, in the thread of the run's session."""

    def __init__(self, parent: Ancestor | None, *, is_elsewhere: bool) -> None:
        """Wait for a run that `parent` has begun. A run that only uses a node of this process `is_elsewhere` not: it needs the cpu here."""
        self._parent = parent if is_elsewhere else None
        self._begun: WaitChanged | None = None

    def begin(self) -> None:
        """Note that some function of the run is to be waited for. Nothing happens outside of functions."""
        if self._parent is not None and self._begun is None:
            key = self._parent.run, self._parent.index, self._parent.attempt
            self._begun = WaitChanged(key, has_begun=True, may_hold_up_loop=is_beside_coroutines())
            tell_of_wait(self._begun)

    def end(self) -> None:
        """Note that the function goes on."""
        begun, self._begun = self._begun, None
        if begun is not None:
            tell_of_wait(begun._replace(has_begun=False))

    async def __aenter__(self) -> None:
        self.begin()

    async def __aexit__(self, *_: object) -> None:
        self.end()

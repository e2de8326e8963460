"""The results of an open run as arguments of other runs."""

from handoff_actors.actors.app.foreign_arguments import ForeignArgument, FoundValue
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.actors.app.runner_source import found_value
from handoff_actors.graph.argument import Handle
from handoff_actors.text import repr_of


class OpenRunValue(ForeignArgument):
    """The result of a function of an open run, which keeps it as long as there is the handle."""

    __slots__ = ("_handle", "_runner")

    def __init__(self, handle: Handle[object], runner: RunnerActor) -> None:
        self._handle = handle
        self._runner = runner

    def find(self, host: object) -> FoundValue:
        """See ForeignArgument."""
        if self._runner.host is not host:
            raise TypeError(
                f"{self._handle!r} belongs to a run of another session: await it, and pass the value, or use one session"
            )
        return found_value(self._runner, self._handle.id, f"an open run, of {repr_of(self._handle)},", self)

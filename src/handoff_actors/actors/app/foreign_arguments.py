"""Values of other runs as arguments: where they are, and what keeps them there."""

from abc import abstractmethod

from msgspec import Struct

from handoff_actors.core.run.facts.foreign_values import ValueSource
from handoff_actors.graph.argument import RunValue
from handoff_actors.ids import FunctionId, RunId


class FoundValue(Struct, frozen=True):
    """A value of another run, as a new run gets it."""

    run: RunId
    source: ValueSource
    #: The value itself, if it is in the app and on no node.
    encoded: bytes | memoryview | None
    #: The function that has made it, and what it is, for errors.
    function_id: FunctionId
    subject: str
    #: The value stays where it is for as long as this is referred to.
    owner: object
    #: The same for values that the same code has made of the same inputs, as far as that is known.
    fingerprint: bytes


class ForeignArgument(RunValue):
    """A value of another run that functions may take."""

    __slots__ = ()

    @abstractmethod
    def find(self, host: object) -> FoundValue:
        """Find the value for a run of the session that `host` belongs to.

        Raises ValueLost, and TypeError for a value of another session.
        """

"""The plan of a stream: its inputs and stages in order, who takes from whom, and what its results are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from handoff_actors.graph.function import Function
from handoff_actors.ids import FunctionId


@dataclass(slots=True)
class StreamVertex:
    """An input, or a stage: a regular function of the graph. Inline functions are part of the stages that take from them."""

    number: int
    function: Function
    #: Vertices whose values it takes, each once, in the order of first use, also through inline functions.
    producers: tuple[int, ...] = ()
    #: Vertices that take from it, each with the position of this one among its producers.
    consumers: list[tuple[int, int]] = field(default_factory=list)
    #: The number of generators before it: its items have numbers of one part more each.
    depth: int = 0
    is_generator: bool = False
    is_async: bool = False

    @property
    def is_input(self) -> bool:
        """True for what is pushed."""
        return self.function.type == "input"


@dataclass(slots=True)
class StreamPlan:
    """A stream's graph. Vertices are numbered so that producers come before consumers; inputs come first."""

    dag_id: FunctionId
    vertices: Sequence[StreamVertex]
    inputs: Sequence[int]
    #: Vertices that nothing takes from, which give the results.
    sinks: Sequence[int]

"""Options of a run."""

from collections.abc import Collection
from typing import Final, Literal

from msgspec import Struct, field

from handoff_actors.core.backoff import NO_BACKOFF, Backoff
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import PlacementPolicy
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.ids import Index
from handoff_actors.retry_on import RetryOn
from handoff_actors.wire.messages.nested import Ancestor

#: "stop": the first function that fails for good ends the run. "continue": only itself, and what depends on it.
OnFailure = Literal["stop", "continue"]

#: A run in which functions add functions without end is ended.
MAX_FUNCTIONS: Final = 10_000_000


class RunOptions(Struct, frozen=True):
    """The caller's choices for one run."""

    policy: PlacementPolicy
    #: Functions whose stored values are brought to the app as soon as they are done.
    wanted: Collection[Index]
    max_retries: int = 3
    on_failure: OnFailure = "stop"
    #: The rule for functions without one of their own.
    retry_on: RetryOn = None
    backoff: Backoff = NO_BACKOFF
    max_concurrency: int | None = None
    timeout_s: float | None = None
    #: Seconds to wait for a node that could hold a function, as the caller has given it.
    allocation_timeout_s: float = 10.0
    #: False where no further node can join: waiting for one is in vain.
    nodes_may_join: bool = True
    #: True for a run to which functions may be added, until it is told that nothing more comes.
    is_open: bool = False
    #: Functions that functions of the run may add to it, altogether.
    max_functions: int = MAX_FUNCTIONS
    #: True if `Observed` effects are wanted.
    observe: bool = False
    #: True if `Record` effects are wanted.
    is_journaled: bool = False
    #: The names of the only nodes that the run may use; None: all.
    nodes: Collection[str] | None = None
    #: The function that has begun the run and waits for it; None for a run that an app has begun.
    parent: Ancestor | None = None
    #: True if a nested run may have a node of its own rather than end since it would wait for ever.
    may_start_node: bool = False
    #: Durations of earlier runs, with which this run starts, and to which it adds its own at its end.
    durations: Durations = field(default_factory=Durations)
    #: The load of the nodes by all runs of the session, this one included.
    load: SessionLoad = field(default_factory=SessionLoad)

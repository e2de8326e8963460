"""The event that gives a run further functions, and with it all events that the machine of a run takes."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from handoff_actors.core.run.events import PlainRunEvent
from handoff_actors.core.run.facts.resumption import NOTHING_FOUND, FoundResults
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.errors import HandoffError
from handoff_actors.ids import FunctionId, Index

NOTHING_REFUSED: Final[Mapping[Index, HandoffError]] = MappingProxyType({})


class Grow(Struct, frozen=True):
    """The run is given further functions, of which those in the outer ones of their plan are there already."""

    #: Numbered by itself.
    program: Program
    #: Functions that the app has handles of, by their indices in that program; so for the following.
    held: Collection[Index]
    #: Indices of values that the app itself has for them.
    app_values: Collection[Index] = ()
    #: Functions that can't be sent, each with the reason.
    refused: Mapping[Index, HandoffError] = NOTHING_REFUSED
    #: What is known of its functions from earlier runs.
    found: FoundResults = NOTHING_FOUND
    #: How many functions deep they were added within functions.
    depth: int = 0
    #: Earlier functions that the app has no handles of any more: one event fewer where calls follow one another.
    let_go: Collection[FunctionId] = ()


RunMachineEvent = PlainRunEvent | Grow

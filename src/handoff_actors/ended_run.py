"""A run that has failed, as its error has it."""

import os
from collections.abc import Mapping
from typing import Any, Protocol

from handoff_actors.ids import FunctionId


class EndedRun(Protocol):
    """A run that has failed, as far as it got: see `handoff_actors.Run`."""

    @property
    def dag_id(self) -> FunctionId:
        """The id of the DAG that was run."""

    @property
    def results(self) -> Mapping[FunctionId, Any]:
        """The results of the functions that were done."""

    @property
    def failures(self) -> Mapping[FunctionId, Exception]:
        """The errors of the functions that failed."""

    @property
    def allocations(self) -> Mapping[FunctionId, str]:
        """The nodes that functions were sent to."""

    @property
    def report(self) -> Any:
        """The report on its functions: see `handoff_actors.Report`."""

    async def fetch(self, function_id: FunctionId) -> Any:
        """Return the value of a function that was done, fetched from the node that has it if need be."""

    async def release(self) -> None:
        """Have nodes drop the results that were not fetched."""

    def to_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace of the run, to be opened in Perfetto."""

    def plot(self) -> Any:
        """Draw the timeline of the run."""

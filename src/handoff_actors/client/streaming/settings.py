"""The options of a stream: their defaults, and checks before anything runs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import get_args

from msgspec import Struct

from handoff_actors.client.execute_options import ItemErrors
from handoff_actors.client.options import RunSettings
from handoff_actors.client.policy import Policy
from handoff_actors.core.stream.options import MEGABYTE, StreamOptions
from handoff_actors.display.options import OutputOption
from handoff_actors.events import OnEvent
from handoff_actors.text import repr_of


class StreamSettings(Struct, frozen=True, kw_only=True):
    """The options of one stream, checked. Raises ValueError or TypeError."""

    in_flight: int
    in_flight_mb: float
    ordered: bool
    join_timeout: float | None
    errors: ItemErrors
    max_retries: int
    allocation_strategy: str | Policy
    nodes: Collection[str] | None
    allocation_timeout: float
    on_event: OnEvent | None
    progress: bool | None
    output: OutputOption
    env_vars: Mapping[str, str] | None
    working_dir: str | PurePath | None
    modules_by_value: Sequence[ModuleType | str]

    def __post_init__(self) -> None:
        if not isinstance(self.in_flight, int) or isinstance(self.in_flight, bool) or self.in_flight < 1:
            raise ValueError(f"in_flight={repr_of(self.in_flight)}: it must be a whole number of 1 or more")
        if not _is_amount(self.in_flight_mb) or self.in_flight_mb <= 0:
            raise ValueError(f"in_flight_mb={repr_of(self.in_flight_mb)}: it must be more than 0")
        if not isinstance(self.ordered, bool):
            raise TypeError(f"ordered={repr_of(self.ordered)}: it must be True or False")
        if self.join_timeout is not None and not (_is_amount(self.join_timeout) and self.join_timeout > 0):
            raise ValueError(
                f"join_timeout={repr_of(self.join_timeout)}: it must be more than 0 seconds, or None"
            )
        if self.errors not in get_args(ItemErrors):
            raise ValueError(f"errors={repr_of(self.errors)}: it is 'yield' or 'raise'")
        if not isinstance(self.max_retries, int) or self.max_retries < 0:
            raise ValueError(f"max_retries={repr_of(self.max_retries)}: it must be 0 or more")
        of_run = self.of_run()
        of_run.policy()
        of_run.modules()

    def of_run(self) -> RunSettings:
        """The options of the run whose functions the workers of the stages are."""
        return RunSettings(
            allocation_strategy=self.allocation_strategy, max_retries=0, nodes=self.nodes, on_event=self.on_event,
            on_failure="continue", allocation_timeout=self.allocation_timeout, progress=False, output=self.output,
            env_vars=self.env_vars, working_dir=self.working_dir, modules_by_value=self.modules_by_value,
        )  # fmt: skip

    def of_machine(self, *, is_observed: bool) -> StreamOptions:
        """The options as the machine takes them."""
        return StreamOptions(
            in_flight=self.in_flight,
            in_flight_nbytes=int(self.in_flight_mb * MEGABYTE),
            ordered=self.ordered,
            join_timeout_s=self.join_timeout,
            max_retries=self.max_retries,
            is_observed=is_observed,
        )


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value < float("inf")
